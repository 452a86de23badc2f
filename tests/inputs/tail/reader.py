"""Stands in for the pipeline: reads what the tail input finds, at once or not at all."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from shipper.inputs.tail.config import NamespacesConfig, TailConfig
from shipper.inputs.tail.generation import Generation, cursor_row, restore_cursor
from shipper.inputs.tail.input import TailInput
from shipper.ledger import DELIVERED, Cursor, lost
from shipper.metrics import Metrics

OUTPUT = "out"
NOBODY = 65534


class Reader:
    """A Listener. `is_reading = False` is a pipeline whose outputs have no room."""

    def __init__(self) -> None:
        self.generations: list[Generation] = []
        self.read: dict[int, bytes] = {}  # by generation
        self.losses: list[tuple[str, str, int, bool]] = []  # name, reason, bytes, has_gap
        self.looks: Counter[int] = Counter()
        self.skippable: list[bool] = []
        self.is_reading = True
        self._heard = asyncio.Event()
        self._next_id = 1

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def adopt(self, generation: Generation, *, may_skip: bool) -> None:
        generation.cursors[OUTPUT] = Cursor(generation.id, OUTPUT)
        self.generations.append(generation)
        self.skippable.append(may_skip)
        self.changed(generation)

    def changed(self, generation: Generation) -> None:
        self.looks[generation.id] += 1
        self._heard.set()
        if self.is_reading:
            self.read_on(generation)

    def lose(self, generation: Generation, reason: str, *, has_gap: bool) -> None:
        count = generation.cursors[OUTPUT].give_up(generation.size, reason).lost
        self.losses.append((Path(generation.path).name, reason, count, has_gap))

    def read_on(self, generation: Generation) -> None:
        cursor = generation.cursors[OUTPUT]
        if generation.file is None or cursor.position >= generation.size:
            return
        data = generation.file.read(cursor.position, generation.size - cursor.position)
        cursor.take(cursor.position + len(data), fates={DELIVERED: len(data)} if data else {}, records=0)
        self.read[generation.id] = self.read.get(generation.id, b"") + data

    def read_all(self) -> None:
        self.is_reading = True
        for generation in self.generations:
            self.read_on(generation)

    async def until(self, condition: Callable[[], Any], *, within_s: float = 100) -> None:
        """Waits for what the input tells."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._heard.clear()
                await self._heard.wait()

    @property
    def contents(self) -> list[bytes]:
        """What was read, by generation in the order of their adoption."""
        return [self.read.get(g.id, b"") for g in self.generations]

    @property
    def everything(self) -> bytes:
        return b"".join(self.contents)

    def check(self) -> None:
        for generation in self.generations:
            cursor = generation.cursors[OUTPUT]
            cursor.check()
            assert cursor.pending(generation.size) >= 0

    def lost_bytes(self) -> int:
        return sum(c for g in self.generations for f, c in g.cursors[OUTPUT].fates.items() if f.startswith(lost("")))


def make_input(reader: Reader, *paths: Path | str, open_limit: int = 1000, **options: Any) -> TailInput:
    namespaces = NamespacesConfig(include=options.pop("include", ()), exclude=options.pop("exclude_namespaces", ()))
    extra = {key: options.pop(key) for key in ("own_pod", "watch") if key in options}
    config = TailConfig(path=tuple(map(str, paths)), namespaces=namespaces, **options)
    return TailInput(config, reader, Metrics(), open_limit=open_limit, **extra)


async def restart(reader: Reader, tail: TailInput) -> TailInput:
    """A new input that knows what a checkpoint would know; nothing was scanned yet."""
    rows = [(g.to_row(), cursor_row(g.cursors[OUTPUT])) for g in reader.generations]
    for generation in reader.generations:
        generation.close()
    new = TailInput(tail.config, reader, Metrics(), open_limit=1000)
    reader.generations = []
    for row, cursor in rows:
        generation = new.catalog.revive(row)
        generation.cursors[OUTPUT] = restore_cursor(cursor)
        reader.generations.append(generation)
    return new


def line(number: int, text: str = "hello") -> bytes:
    return b"2026-11-21T10:00:00.%09dZ stdout F %b\n" % (number, text.encode())


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """Nobody may read it; uid 0 becomes somebody for that, who may read all else."""
    user, mode = os.geteuid(), path.stat().st_mode
    with ExitStack() as stack:
        if user == 0:
            for folder in path.parents:
                if folder.stat().st_mode & 0o055 != 0o055:
                    stack.callback(folder.chmod, folder.stat().st_mode)
                    folder.chmod(folder.stat().st_mode | 0o055)
        path.chmod(0)
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(user)
            path.chmod(mode)
