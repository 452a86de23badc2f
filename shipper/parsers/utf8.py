"""UTF-8 in whole columns (RFC 3629): what is invalid becomes U+FFFD, and no cut goes through a character."""

from collections.abc import Sequence

LONGEST_CHARACTER = 4  # bytes


def replace_invalid(bodies: Sequence[bytes]) -> tuple[Sequence[bytes], int]:
    """-> bodies, and how many of them had invalid bytes."""
    if b"\n".join(bodies).isascii() or are_valid(bodies):
        return bodies, 0
    mended = [body.decode("utf-8", "replace").encode() for body in bodies]
    return mended, sum(a != b for a, b in zip(mended, bodies, strict=True))


def are_valid(bodies: Sequence[bytes]) -> bool:
    """Bodies without a newline, each by itself."""
    try:
        b"\n".join([body for body in bodies if not body.isascii()]).decode()
    except UnicodeDecodeError:
        return False
    return True


def cut_before(text: bytes, begin: int, end: int) -> int:
    """The place nearest before `end`, which is within `text`, where no character is cut; after `begin` in any case."""
    for at in range(end, max(end - LONGEST_CHARACTER, begin), -1):
        if text[at] & 0xC0 != 0x80:
            return at
    return end
