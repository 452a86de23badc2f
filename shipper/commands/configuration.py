"""`shipper check`: the configuration as it is understood, and whether what it names is there. `shipper schema`."""

import argparse
import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

from shipper.commands import DONE, FAILED, load
from shipper.config.schema import json_schema
from shipper.config.show import dump
from shipper.errors import ShipperError
from shipper.values import parse_duration

if TYPE_CHECKING:
    from shipper.config.model import Config


def check(options: argparse.Namespace) -> int:
    config = load(options)
    print(dump(config), end="")
    _warn_of_short_grace(config.service.drain_timeout)
    return asyncio.run(_check_online(config)) if options.online else DONE


def _warn_of_short_grace(drain_timeout_s: float) -> None:
    """The manifest tells the pod its terminationGracePeriodSeconds."""
    written = os.environ.get("POD_GRACE_PERIOD")
    if not written:
        return
    try:
        grace_s = parse_duration(written)
    except ValueError as exc:
        raise ShipperError(f"the environment variable POD_GRACE_PERIOD: {exc}") from exc
    if grace_s <= drain_timeout_s:
        print(
            f"shipper: warning: the pod is killed {written} after SIGTERM, before drain_timeout ({drain_timeout_s:g}s) "
            "is over; raise terminationGracePeriodSeconds",
            file=sys.stderr,
        )


async def _check_online(config: "Config") -> int:
    from shipper.metrics import Metrics
    from shipper.parts import make_metadata, make_output

    findings: list[tuple[str, bool, str, str]] = []
    for each in config.outputs:
        output = make_output(each)
        findings += [(f"output {output.name}", f.ok, f.what, f.mend) for f in await output.check()]
    metadata = make_metadata(config, Metrics())
    if metadata is not None:
        findings += [(f"filter {metadata.name}", *finding) for finding in await metadata.check()]
        await metadata.close()
    for who, ok, what, mend in findings:
        print(f"{'ok  ' if ok else 'FAIL'} {who}: {what}" + (f"; {mend}" if mend and not ok else ""))
    return DONE if all(ok for _, ok, _, _ in findings) else FAILED


def schema(options: argparse.Namespace) -> int:  # noqa: ARG001
    print(json.dumps(json_schema(), indent=2))
    return DONE
