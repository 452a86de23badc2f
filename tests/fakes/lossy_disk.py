"""A disk that loses what was not fsynced: what may be found on it after the power has failed.

Nothing is promised but by fsync: of a file, the bytes written before it began; of a folder, the names in it. Of all
else anything may have reached the disk: any of the writes, torn between two pages, and any of the names. Only what was
done to one name, or to names that were renamed to each other, keeps its order, as in every journal.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, NamedTuple

PAGE_BYTES = 4096

Loss = Literal["nothing", "everything", "data", "names", "any"]
LOSSES: tuple[Loss, ...] = ("nothing", "everything", "data", "names", "any")


class Write(NamedTuple):
    at: float
    offset: int
    data: bytes


class Truncate(NamedTuple):
    at: float
    size: int


class Names(NamedTuple):
    """What names of one folder lead to from now on: all of these at once."""

    at: float
    entries: tuple[tuple[str, "Node | None"], ...]


@dataclass(eq=False)
class File:
    number: int = 0  # of the file among all that were made on its disk
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)  # in order, not known to be on the disk
    now: bytearray = field(default_factory=bytearray)  # what a process sees

    def change(self, change: Write | Truncate) -> None:
        self.pending.append(change)
        apply(self.now, change)

    def sync(self, begun: float) -> None:
        """What was written after the fsync had begun may have come too late for it."""
        for change in self.pending:
            if change.at <= begun:
                apply(self.durable, change)
        self.pending = [change for change in self.pending if change.at > begun]

    def survives(self, rng: random.Random, loss: Loss) -> bytes:
        content, chance = bytearray(self.durable), rng.choice((0.1, 0.5, 0.9))
        for change in self.pending:
            for piece in torn(change):
                if loss in ("nothing", "names") or (loss == "any" and rng.random() < chance):
                    apply(content, piece)
        return bytes(content)


@dataclass(eq=False)
class Folder:
    durable: dict[str, "Node"] = field(default_factory=dict)
    pending: list[Names] = field(default_factory=list)
    now: dict[str, "Node"] = field(default_factory=dict)

    def change(self, names: Names) -> None:
        self.pending.append(names)
        rename(self.now, names)

    def sync(self, begun: float) -> None:
        for names in self.pending:
            if names.at <= begun:
                rename(self.durable, names)
        self.pending = [names for names in self.pending if names.at > begun]

    def survives(self, rng: random.Random, loss: Loss) -> dict[str, "Node"]:
        found = dict(self.durable)
        for history in histories(self.pending):
            kept = len(history) if loss in ("nothing", "data") else 0
            for names in history[: rng.randint(0, len(history)) if loss == "any" else kept]:
                rename(found, names)
        return found


Node = File | Folder


def apply(content: bytearray, change: Write | Truncate) -> None:
    end = change.size if isinstance(change, Truncate) else change.offset + len(change.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if isinstance(change, Truncate):
        del content[change.size :]
    else:
        content[change.offset : end] = change.data


def torn(change: Write | Truncate) -> Iterator[Write | Truncate]:
    """A write as the pages that it touches."""
    if isinstance(change, Truncate):
        yield change
        return
    offset, end = change.offset, change.offset + len(change.data)
    while offset < end:
        border = min(end, (offset // PAGE_BYTES + 1) * PAGE_BYTES)
        yield Write(change.at, offset, change.data[offset - change.offset : border - change.offset])
        offset = border


def rename(entries: dict[str, "Node"], names: Names) -> None:
    for name, node in names.entries:
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def histories(pending: list[Names]) -> list[list[Names]]:
    """Changes that touch a common name, each group in its order."""
    groups: list[tuple[set[str], list[Names]]] = []
    for names in pending:
        touched = {name for name, _ in names.entries}
        mine = [group for group in groups if group[0] & touched]
        groups = [group for group in groups if group not in mine]
        history = sorted((each for _, part in mine for each in part), key=lambda each: each.at)
        groups.append((touched.union(*(group[0] for group in mine)), [*history, names]))
    return [history for _, history in groups]


class Disk:
    """All below `root`, which is there for good, as are the folders `there` in it. Times only order what happens."""

    def __init__(self, root: PurePath, *there: str) -> None:
        self.root = root
        self.top = Folder()
        for name in there:
            self.top.durable[name] = self.top.now[name] = Folder()
        self._made = 0

    def find(self, path: PurePath) -> Node | None:
        node: Node | None = self.top
        for part in path.relative_to(self.root).parts:
            node = node.now.get(part) if isinstance(node, Folder) else None
        return node

    def file(self, path: PurePath) -> File:
        found = self.find(path)
        assert isinstance(found, File), path
        return found

    def folder_of(self, path: PurePath) -> Folder:
        found = self.find(path.parent)
        assert isinstance(found, Folder), path
        return found

    def create(self, at: float, path: PurePath, *, folder: bool = False) -> None:
        """Where there is nothing yet."""
        if self.find(path) is None:
            self._made += 1
            node = Folder() if folder else File(self._made)
            self.folder_of(path).change(Names(at, ((path.name, node),)))

    def remove(self, at: float, path: PurePath) -> None:
        self.folder_of(path).change(Names(at, ((path.name, None),)))

    def move(self, at: float, path: PurePath, target: PurePath) -> None:
        node, old, new = self.find(path), self.folder_of(path), self.folder_of(target)
        if old is new:
            old.change(Names(at, ((path.name, None), (target.name, node))))
        else:
            new.change(Names(at, ((target.name, node),)))
            old.change(Names(at, ((path.name, None),)))

    def sync(self, begun: float, path: PurePath) -> None:
        node = self.find(path)
        if node is not None:
            node.sync(begun)

    def after_loss(self, rng: random.Random, loss: Loss) -> dict[PurePath, tuple[File, bytes] | None]:
        """Path -> file and content, None for a folder; folders come before what is in them."""
        return dict(_walk(self.root, self.top, rng, loss))

    def files(self) -> dict[PurePath, File]:
        """As a process sees them."""
        return {path: found[0] for path, found in self.after_loss(random.Random(0), "nothing").items() if found}


def _walk(
    path: PurePath, folder: Folder, rng: random.Random, loss: Loss
) -> Iterator[tuple[PurePath, tuple[File, bytes] | None]]:
    for name, node in sorted(folder.survives(rng, loss).items()):
        if isinstance(node, File):
            yield path / name, (node, node.survives(rng, loss))
        else:
            yield path / name, None
            yield from _walk(path / name, node, rng, loss)
