"""The contract of a filter, and what the kubernetes filter knows of a container.

Filters are plain synchronous functions; only the Kubernetes watch does I/O. What a filter can decide from a
container's identity and metadata is decided once per chunk (shipper.router); only the rest sees records.
"""

import enum
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec

from shipper.record import Source


class Lookup(enum.Enum):
    UNKNOWN = "unknown"  # the API has not told yet: what depends on metadata waits
    ABSENT = "absent"  # a GET has said so: 404, or another uid under that name; identity is all there will ever be


class Metadata(msgspec.Struct, frozen=True, weakref=True):
    """What the API says of one container. `MetadataSource` tells when it changes."""

    # members of "kubernetes" beside the path's identity
    document: Mapping[str, Any] = msgspec.field(default_factory=dict)
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)  # all of the pod's, for conditions and templates
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)  # likewise
    excluded: bool = False  # by the exclude annotation
    terminated: bool = False  # this container (of this restart count) has ended, by the pod's status


class MetadataSource(Protocol):
    """The kubernetes filter, as the pipeline sees it."""

    name: str

    def lookup(self, source: Source) -> Metadata | Lookup:
        """From the cache, at once. UNKNOWN makes the filter find out (GET of that pod) without being asked again."""

    def on_change(self, callback: Callable[[str], None]) -> None:
        """`callback(uid of the path)` whenever a lookup of that pod would answer differently than before."""

    def retain(self, uids: Collection[str]) -> None:
        """Pods of these path uids still have unread lines: a deleted one of them stays known. Others may go."""

    async def run(self) -> None:
        """The watch; ends only by cancellation."""

    async def start(self, state_dir: str | None) -> None:
        """Loads the snapshot; waits for nothing that is far away."""

    async def close(self) -> None: ...

    def status(self) -> dict[str, Any]: ...
