"""The runtime's side of a container's log (containerd): CRI lines, parts, restarts, reopening.

A `ContainerLog` writes to the file that it has open, whatever that is called by now, as the runtime does.
"""

import itertools
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.world.account import ContainerAccount
from benchmarks.world.applications import Application, Record, refused
from benchmarks.world.clock import Clock, cri_time

SPACING_NS = 12_345  # between two lines of a container while the clock stands still


class Place(NamedTuple):
    """Bytes [begin, end) of a file, which belong to one record: a line, or what was written of one at once."""

    record: int
    begin: int
    end: int


@dataclass(slots=True)
class Stretch:
    """What one file holds: the numbers of the records that began in it, or ended in it; and where they are."""

    container: ContainerAccount
    first: int
    last: int  # first - 1 while it is empty
    name: str = ""  # of the file, when it was begun
    bytes: int = 0
    places: list[Place] = field(default_factory=list)
    begun_at: float = float("inf")  # time.monotonic() of its first bytes

    @property
    def records(self) -> range:
        return range(self.first, self.last + 1)


class ContainerLog:
    """One container: `running`, its restart count, and the file that its output goes to.

    `stretches`: all that it wrote, file by file.
    """

    def __init__(
        self, folder: Path, account: ContainerAccount, application: Application, clock: Clock, rng: random.Random
    ) -> None:
        self.folder = folder
        self.account = account
        self.restart = 0
        self.running = False
        self._application = application
        self._clock = clock
        self._rng = rng
        self._drawn: list[Record] = []
        self._descriptor = -1
        self._last_ns = 0
        self._long: tuple[int, bytes] | None = None  # begun: its number, and the line still to come
        self._half: tuple[int, bytes] | None = None  # written in part: its number, and the rest of the line
        self.stretches: list[Stretch] = []
        self.stretch = self._new_stretch()

    def __repr__(self) -> str:
        return f"<ContainerLog {self.account.name} {self.restart}.log, {self.account.records} records>"

    @property
    def path(self) -> Path:
        """Where the kubelet expects the live file."""
        return self.folder / f"{self.restart}.log"

    @property
    def is_between_records(self) -> bool:
        """It runs, and may write its next record."""
        return self.running and self._long is None and self._half is None

    def start(self) -> None:
        self.running = True
        self.reopen()

    def reopen(self) -> None:
        """What the kubelet asks for after a rename: between two lines. A new file begins a new stretch."""
        self.write_rest()
        self._close()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        if os.fstat(self._descriptor).st_size == 0:
            self.stretch = self._new_stretch()
            self.stretches.append(self.stretch)

    def write(self, records: int = 1) -> None:
        """The application's next records, in whole lines."""
        assert self._long is None, "the runtime is in the middle of a record"
        self._append([self._whole(record) for record in itertools.islice(self._draw(), records)])

    def write_refused(self) -> None:
        """A record that an index refuses."""
        assert self._long is None, "the runtime is in the middle of a record"
        self.account.refused.append(self.account.records)
        self._append([self._whole(refused(self._rng))])

    def write_half_line(self) -> None:
        """The first half of a line; `write_rest` brings the other. Nothing else may be written in between."""
        seq, (line,) = self._whole(next(r for r in self._draw() if not r.cuts))
        middle = len(line) // 2
        self._half = seq, line[middle:]
        self._append([(seq, [line[:middle]])])

    def write_rest(self) -> None:
        if self._half is not None:
            (seq, half), self._half = self._half, None
            self._append([(seq, [half])])

    def begin_long(self) -> None:
        """All parts of a long record but the last. On stderr, records may come before `end_long`."""
        seq, (*heads, last) = self._whole(next(r for r in self._draw() if r.cuts))
        self._append([(seq, heads)])
        self._long = seq, last

    def end_long(self) -> None:
        """Its last part, which may be in another file than its first; nothing where the container has died before."""
        if self._long is None:
            return
        seq, line = self._long
        self._long = None
        self.stretch.first = min(self.stretch.first, seq)
        self._append([(seq, [line])])

    def interject(self) -> None:
        """One line on stderr, as while a long record of stdout is open."""
        self._append([self._whole(next(r for r in self._draw() if r.stream == "stderr"))])

    def die(self, *, last_words: bool = False) -> None:
        """The process ends. `last_words` without a newline become a `P` that no `F` follows; so does an open record."""
        self.write_rest()
        if self._long is not None:
            self.account.unfinished.append(self._long[0])
            self._long = None
        elif last_words:
            seq, (line,) = self._whole(next(r for r in self._draw() if not r.cuts))
            self._append([(seq, [line.replace(b" F ", b" P ", 1)])])
        self.running = False
        self._close()

    def _draw(self) -> itertools.chain[Record]:
        return itertools.chain.from_iterable(self._application.draw(self._rng) for _ in itertools.count())

    def _new_stretch(self) -> Stretch:
        return Stretch(self.account, self.account.records, self.account.records - 1, self.path.name)

    def _book(self, record: Record) -> int:
        seq = self.account.records
        self.account.count(kind=record.kind, stream=record.stream)
        self.stretch.last = seq
        return seq

    def _whole(self, record: Record) -> tuple[int, list[bytes]]:
        """The next record's number, and its lines."""
        seq = self._book(record)
        return seq, self._lines(record, seq)

    def _lines(self, record: Record, seq: int) -> list[bytes]:
        parts = record.numbered_parts(seq)
        tags = [b"P"] * (len(parts) - 1) + [b"F"]
        stream = record.stream.encode()
        return [b"%b %b %b %b\n" % (self._time(), stream, tag, part) for tag, part in zip(tags, parts, strict=True)]

    def _time(self) -> bytes:
        now = self._clock.now_ns()
        if abs(now - self._last_ns) < 60 * 10**9:  # a larger jump is the clock's own step, and is to be seen
            now = max(now, self._last_ns + SPACING_NS)
        self._last_ns = now
        return cri_time(now)

    def _append(self, records: list[tuple[int, list[bytes]]]) -> None:
        """Lines, or parts of them, by their record's number; in one write."""
        stretch, written = self.stretch, bytearray()
        for seq, lines in records:
            for line in lines:
                begin = stretch.bytes + len(written)
                stretch.places.append(Place(seq, begin, begin + len(line)))
                written += line
        self.account.lines += written.count(b"\n")
        self.account.bytes += len(written)
        stretch.begun_at = min(stretch.begun_at, time.monotonic())
        stretch.bytes += len(written)
        os.write(self._descriptor, written)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
