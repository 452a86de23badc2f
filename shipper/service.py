"""Settings of the daemon itself: the `service` part of the configuration.

They stand below shipper.config, so that the server and the pipeline can name them without knowing the loader.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from shipper.values import Address, Doc, Duration, Flaw, Secret, Size

OWN_FIELDS = ("@timestamp", "stream", "kubernetes", "message", "file", "truncated", "parse_error", "_id")


def default_state_dir() -> str:
    """`/var/lib/shipper` for uid 0, else the user's state folder by the XDG base directory specification."""
    if os.geteuid() == 0:
        return "/var/lib/shipper"
    return str(Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "shipper")


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    listen: Annotated[
        Address,
        Doc("Where /metrics, /healthz, /readyz and /api/v1/status are served. In a pod: `${POD_IP}:2020`."),
    ] = "127.0.0.1:2020"
    token: Annotated[
        Secret | None, Doc("Asked for (as a bearer token) by what changes something; without one, nothing can.")
    ] = None


class DeadLettersConfig(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: Annotated[
        Size, Doc("Bound of the rejected records kept in `state_dir`; the oldest goes first, and is counted as lost.")
    ] = 256 * 2**20


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    state_dir: Annotated[
        str,
        Doc(
            "Checkpoints, archive spool, dead letters and metadata snapshot; one process at a time. "
            "Default: `/var/lib/shipper` for uid 0, else `$XDG_STATE_HOME/shipper` or `~/.local/state/shipper`."
        ),
    ] = msgspec.field(default_factory=default_state_dir)
    memory_limit: Annotated[
        Size, Doc("Bytes of chunks and batches in flight, over all outputs together; each has an equal share.")
    ] = 64 * 2**20
    drain_timeout: Annotated[
        Duration, Doc("After SIGTERM: stop reading, deliver what is in flight, upload open objects, save, exit.")
    ] = 20.0
    http: Annotated[HttpConfig | None, Doc("Metrics, health and status over HTTP; `off` for none.")] = HttpConfig()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Doc("Least severity of the daemon's own log on stderr.")
    ] = "info"
    fields: Annotated[dict[str, Any], Doc("Static fields on every document, such as `{cluster: prod}`.")] = {}
    hold_deleted: Annotated[
        Size, Doc("How much of deleted, unread files is held open, in all; what it gives up is counted as lost.")
    ] = 2**30
    history: Annotated[
        Duration, Doc("How long the ledger of a gone container, and the state of a removed output, are kept.")
    ] = 7 * 86400.0
    dead_letters: Annotated[DeadLettersConfig, Doc("The store of rejected records.")] = DeadLettersConfig()

    def flaws(self) -> Iterator[Flaw]:
        for name in self.fields:
            if name.split(".")[0] in OWN_FIELDS:
                yield Flaw(("fields", name), "is a field that shipper writes itself; choose another name")
        if not self.state_dir:
            yield Flaw(("state_dir",), "is empty; leave the key out for the default")
