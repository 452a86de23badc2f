"""What was written, by container: the truth that a run is checked against."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec


class ContainerAccount(msgspec.Struct, kw_only=True):
    """Records of one container carry the sequence numbers 0 to `records` - 1, over all its files and restarts."""

    namespace: str
    pod: str
    uid: str
    container: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    records: int = 0
    lines: int = 0
    bytes: int = 0  # of CRI lines, newlines included
    kinds: dict[str, int] = {}  # records by what wrote them: pino, nginx, traceback, ...
    streams: dict[str, int] = {}
    unfinished: list[int] = []  # records that the container died in: they have no end
    refused: list[int] = []  # records that an index refuses (benchmarks.world.applications.refused)

    @property
    def key(self) -> tuple[str, str]:
        return self.uid, self.container

    @property
    def name(self) -> str:
        return f"{self.namespace}/{self.pod}/{self.container}"

    def count(self, *, kind: str, stream: str, records: int = 1) -> None:
        """Books whole records; their lines and bytes are booked as they are written."""
        self.records += records
        self.kinds[kind] = self.kinds.get(kind, 0) + records
        self.streams[stream] = self.streams.get(stream, 0) + records


class Account(msgspec.Struct, kw_only=True):
    seed: int
    containers: list[ContainerAccount] = []

    @property
    def records(self) -> int:
        return sum(c.records for c in self.containers)

    @property
    def bytes(self) -> int:
        return sum(c.bytes for c in self.containers)

    def where(self, wanted: Callable[[ContainerAccount], bool]) -> Self:
        """The part of it that one output should have got."""
        return type(self)(seed=self.seed, containers=[c for c in self.containers if wanted(c)])

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        return msgspec.json.decode(path.read_bytes(), type=cls)
