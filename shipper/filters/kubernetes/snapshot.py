"""The cache on disk: what serves a restart while the API is down. Replaced by what the watch tells."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from shipper.durable import sync
from shipper.filters.kubernetes.pod import Pod

VERSION = 1


class Snapshot(msgspec.Struct, frozen=True):
    version: int = VERSION
    pods: list[Pod] = []
    namespaces: dict[str, dict[str, str]] = {}
    node_labels: dict[str, str] = {}


class PackedSnapshot(msgspec.Struct, frozen=True):
    """The same to be written: of thousands of pods that are packed, none is unpacked for that."""

    version: int = VERSION
    pods: list[msgspec.Raw] = []
    namespaces: dict[str, dict[str, str]] = {}
    node_labels: dict[str, str] = {}


class SnapshotFile:
    """Written whole or not at all. The calls block: use them in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saving = threading.Lock()  # a cancelled task leaves its thread behind, at work

    def __repr__(self) -> str:
        return f"<SnapshotFile {self._path}>"

    def load(self) -> Snapshot:
        """An empty one where there is none. Raises OSError, or ValueError for what cannot be read."""
        try:
            body = self._path.read_bytes()
        except FileNotFoundError:
            return Snapshot()
        snapshot = msgspec.json.decode(body, type=Snapshot)
        if snapshot.version != VERSION:
            raise ValueError(f"it has version {snapshot.version}, this is for version {VERSION}")
        return snapshot

    def save(self, snapshot: Snapshot | PackedSnapshot) -> None:
        """Raises OSError. A crash at any line leaves the old snapshot, or the new one."""
        with self._saving:
            temporary = self._path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                file.writelines(_pieces(snapshot))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            sync(self._path.parent)


def _pieces(snapshot: Snapshot | PackedSnapshot) -> Iterable[bytes | msgspec.Raw]:
    """As JSON; what is packed as it is, so that thousands of pods are not in memory once more."""
    if isinstance(snapshot, Snapshot):
        yield msgspec.json.encode(snapshot)
        return
    head, _, tail = msgspec.json.encode(msgspec.structs.replace(snapshot, pods=[])).partition(b"[]")
    yield head + b"["
    for number, pod in enumerate(snapshot.pods):
        if number:
            yield b","
        yield pod
    yield b"]" + tail
