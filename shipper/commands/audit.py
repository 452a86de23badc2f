"""`shipper audit`: what became of every byte, and with `--archive`, whether the buckets hold what they should."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shipper import audit
from shipper.ask import NoAnswer, ask_daemon
from shipper.checkpoint import read_beside
from shipper.commands import DONE, FAILED, load
from shipper.errors import ShipperError

if TYPE_CHECKING:
    from shipper.config.model import Config
    from shipper.outputs.s3.audit import Ledger, Report, Window
    from shipper.outputs.s3.config import S3Config


def show(options: argparse.Namespace) -> int:
    if options.archive:
        return _audit_archive(options)
    if options.deep or options.since is not None or options.until is not None:
        raise ShipperError("--deep, --since and --until go with --archive")
    state_dir, config = _state_dir(options)
    found = _accounts_of_daemon(config) if config else None
    if found is None:
        found = _accounts_of_state(state_dir, config)
    problems = audit.verdict(found)
    if options.json:
        print(json.dumps(audit.as_json(found), indent=2))
    else:
        print(audit.table(found))
        print("\n".join(problems) or "every byte is accounted for")
    return FAILED if problems else DONE


def _state_dir(options: argparse.Namespace) -> tuple[Path, "Config | None"]:
    if options.state_dir:
        return Path(options.state_dir), None
    if options.config is None:
        raise ShipperError("audit needs a CONFIG, or --state-dir")
    config = load(options)
    return Path(config.service.state_dir), config


def _accounts_of_state(state_dir: Path, config: "Config | None") -> list[audit.Account]:
    """As of the last commit."""
    stored = read_beside(state_dir)
    rows = ((g, stored.cursors.get(g.id, {}).values()) for g in stored.generations.values())
    return audit.accounts(rows, [o.name for o in config.outputs] if config else None)


def _accounts_of_daemon(config: "Config") -> list[audit.Account] | None:
    """As of now; None where no daemon with this state answers."""
    if config.service.http is None:
        return None
    try:
        said = ask_daemon(config.service.http.listen, "/api/v1/audit", state_dir=config.service.state_dir)
        found = audit.from_json(said)
    except (NoAnswer, KeyError, TypeError, ValueError) as exc:
        print(f"shipper: from the state directory, as of the last commit: {exc}", file=sys.stderr)
        return None
    print(f"shipper: from the running daemon at {config.service.http.listen}", file=sys.stderr)
    return found


def _audit_archive(options: argparse.Namespace) -> int:
    if options.config is None or options.state_dir:
        raise ShipperError("audit --archive needs a CONFIG, which says where the archive is, and takes no --state-dir")
    config = load(options)
    from shipper.outputs.s3.audit import Window, as_json, as_text
    from shipper.outputs.s3.config import S3Config

    outputs = [output for output in config.outputs if isinstance(output, S3Config)]
    if not outputs:
        raise ShipperError("there is no archive to audit: this configuration has no output of type s3")
    window = Window(options.since, options.until)
    reports = [
        asyncio.run(_audit_bucket(each, window, _ledger_for(each, config, window), deep=options.deep))
        for each in outputs
    ]
    print(json.dumps(as_json(reports), indent=2) if options.json else as_text(reports))
    return FAILED if any(report.differences for report in reports) else DONE


def _ledger_for(output: "S3Config", config: "Config", window: "Window") -> "Ledger | None":
    """None where it cannot be held against the lists: elsewhere, for some hours only, or where lists expire."""
    from shipper.outputs.s3.audit import Ledger, Window
    from shipper.outputs.s3.manifest import manifest_folder

    state_dir = config.service.state_dir
    expires = output.lifecycle is not None and output.lifecycle.expire is not None
    if window != Window() or expires or not (Path(state_dir) / "lock").exists():
        return None
    from shipper.parts import node_name

    found = _accounts_of_daemon(config) or _accounts_of_state(Path(state_dir), config)
    files = sorted(path for path in manifest_folder(state_dir, output.name).glob("*") if path.is_file())
    lists = {str(path): path.read_bytes().rpartition(b"\n")[0] for path in files}  # a line may be on its way
    return Ledger(node_name(config), found, lists)


async def _audit_bucket(config: "S3Config", window: "Window", ledger: "Ledger | None", *, deep: bool) -> "Report":
    from shipper.outputs.s3.audit import audit_archive
    from shipper.outputs.s3.download import DownloadApi

    reader = DownloadApi(config, lambda _status: None)
    try:
        return await audit_archive(config, reader, window=window, deep=deep, ledger=ledger)
    finally:
        await reader.close()
