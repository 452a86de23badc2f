"""What is new at the ends of files that grow: many are looked at in one native call.

It is for the usual: a plain file that is open, whose head is known whole, has become longer. Of any other, and where
nothing native was built, `Catalog.look` finds out what has happened.
"""

from collections.abc import Iterable, Sequence

from shipper import native
from shipper.inputs.tail.files import PlainFile
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.identity import FINGERPRINT_BYTES

NEWS_BYTES = 8 * 1024  # of one file, kept for whoever reads it next: as much as a sweep takes of it
ALL_NEWS_BYTES = 64 * 1024  # likewise

# A file, its size, and what it has beyond the size that was known, if that is little.
End = tuple[Generation, int, bytes | None]


def look_at_ends(generations: Iterable[Generation]) -> tuple[Sequence[End], Sequence[Generation]]:
    """-> files of which nothing else can have happened than that they have grown, and all others."""
    if native.MODULE is None:
        return (), list(generations)
    usual: list[Generation] = []
    asked: list[tuple[int, int, int]] = []
    others: list[Generation] = []
    for generation in generations:
        file, fitted, known = generation.file, generation.fitted, generation.fingerprint
        is_whole = known.length == FINGERPRINT_BYTES
        if is_whole and type(file) is PlainFile and fitted is not None and fitted[0] is known:
            usual.append(generation)
            asked.append((file.fd, generation.size, fitted[1]))
        else:
            others.append(generation)
    found: list[End] = []
    for generation, end in zip(usual, native.MODULE.look_at_ends(asked, NEWS_BYTES, ALL_NEWS_BYTES), strict=True):
        if end is not None:
            found.append((generation, *end))
        else:
            others.append(generation)
    return found, others
