"""Decides which file on disk is which known generation. Pure: heads of files are given, decisions come out.

Order of trust: an open file of the same inode (the kernel keeps it ours) and a file that is as it was when its bytes
were compared last; then the fingerprint of the first bytes. A path or an inode alone is only a hint.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from shipper.inputs.tail.discovery import Found
from shipper.inputs.tail.generation import Generation


class Head(NamedTuple):
    """Of a file that was opened: its first bytes, and how many it has, decompressed."""

    data: bytes
    size: int


class Matched(msgspec.Struct):
    """`known`: generation -> its file now. `new`: files of generations not seen before. `gone`: no file is theirs."""

    known: list[tuple[Generation, Found]] = msgspec.field(default_factory=list)
    new: list[Found] = msgspec.field(default_factory=list)
    gone: list[Generation] = msgspec.field(default_factory=list)
    # overwritten in place: what was unread is nowhere
    truncated: list[Generation] = msgspec.field(default_factory=list)
    left: list[Found] = msgspec.field(default_factory=list)  # for another time, since their bytes could not be seen

    @property
    def is_complete(self) -> bool:
        return not self.left


def unsure(generations: Sequence[Generation], files: Sequence[Found]) -> list[Found]:
    """Files that must be opened: their heads decide who they are, or they have a rest that is to be read."""
    return [f for f in files if f.size and not any(_is_surely(g, f) for g in generations)]


def match(generations: Sequence[Generation], files: Sequence[Found], heads: Mapping[str, Head]) -> Matched:
    """`generations` and `files` of one live path, oldest first; `heads`: of the files that `unsure` named.

    A file whose head is missing from `heads` (it could not be opened, or was renamed meanwhile) is left for another
    time, and so is an empty one.
    """
    out, taken = Matched(), dict[int, Found]()  # by id of the generation
    rest = [] if generations else list(files)
    for file in files if generations else ():
        sure = next((g for g in generations if g.id not in taken and _is_surely(g, file)), None)
        if sure is not None:
            taken[sure.id] = file
        else:
            rest.append(file)
    for file in list(rest) if generations else ():  # bytes that confirm the hint of the inode
        head = heads.get(file.path)
        hinted = (g for g in generations if g.id not in taken and _is_same_by_inode(g, file))
        found = next((g for g in hinted if head is not None and _can_be(g, file, head)), None)
        if found is not None:
            taken[found.id] = file
            rest.remove(file)
    for file in sorted(rest, key=lambda f: f.name.is_live):  # rotated ones first: they continue what was live before
        _place_by_bytes(file, generations, heads, taken, out)
    for generation in generations:
        if generation.id in taken:
            out.known.append((generation, taken[generation.id]))
        elif any(_stands_on(generation, f) for f in files):
            out.truncated.append(generation)
        else:
            out.gone.append(generation)
    return out


def _place_by_bytes(
    file: Found, generations: Sequence[Generation], heads: Mapping[str, Head], taken: dict[int, Found], out: Matched
) -> None:
    if any((f.device, f.inode) == (file.device, file.inode) for f in (*taken.values(), *out.new)):
        return  # renamed while the folder was read: seen under both names
    head = heads.get(file.path)
    if head is None:
        if file.size:
            out.left.append(file)
        return
    fitting = [g for g in generations if g.known.fingerprint.fits(head.data)]
    free = [g for g in fitting if g.id not in taken and _can_be(g, file, head)]
    if free:
        best = min(free, key=lambda g: abs(head.size - g.size))  # local files may begin alike
        taken[best.id] = file
    elif file.name.is_live or not any(g.id in taken for g in fitting):
        out.new.append(file)  # else it is a copy in the making (copytruncate) of what is taken


def _is_surely(generation: Generation, file: Found) -> bool:
    if generation.is_doubtful:
        return False
    held = generation.file
    if held is None:
        return generation.seen == file and not generation.has_unread()
    if held.is_gzip or file.name.is_gzip:
        return generation.seen == file
    return (held.device, held.inode) == (file.device, file.inode) and file.size >= generation.known.size


def _can_be(generation: Generation, file: Found, head: Head) -> bool:
    """A container's first line is unique, also when the kubelet renames a file back; that of a local file is not."""
    known = generation.known
    if not known.fingerprint.fits(head.data) or (not file.name.is_gzip and head.size < known.size):
        return False
    if not file.name.is_live or generation.source.is_container:
        return True
    return generation.path == file.path or _is_same_by_inode(generation, file)


def _is_same_by_inode(generation: Generation, file: Found) -> bool:
    return (generation.device, generation.inode) == (file.device, file.inode)


def _stands_on(generation: Generation, file: Found) -> bool:
    """copytruncate: the name and inode are its own, but the bytes are not."""
    return _is_same_by_inode(generation, file) and generation.path == file.path and not file.name.is_gzip
