"""What is new at the ends of files that grow: many are looked at in one native call.

It is for the usual: a plain file that is open, whose head is known whole, has become longer. Of any other, and where
nothing native was built, `Catalog.look` finds out what has happened.
"""

from collections.abc import Iterable

from shipper import native
from shipper.inputs.tail.files import PlainFile
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.identity import FINGERPRINT_BYTES

NEWS_BYTES = 8 * 1024  # of one file, kept for whoever reads it next: as much as a sweep takes of it
ALL_NEWS_BYTES = 64 * 1024  # likewise

# A file's size, and what it has beyond the size that was known, if that is little.
End = tuple[int, bytes | None]


def look_at_ends(
    generations: Iterable[Generation],
) -> tuple[Iterable[tuple[Generation, End | None]], Iterable[Generation]]:
    """-> files of which, where they have an `End`, nothing else can have happened than that they have grown; others."""
    if native.MODULE is None:
        return (), generations
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
    ends = native.MODULE.look_at_ends(asked, NEWS_BYTES, ALL_NEWS_BYTES)
    return zip(usual, ends, strict=True), others
