"""CRI lines: `<RFC 3339 time> <stdout|stderr> <tags> <content>`.

https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md; only the first of the tags
is defined (F or P). containerd trims the fraction's zeros, CRI-O does not, and may write a numeric offset.
"""

import io
import re

from shipper.parsers.lines import FULL, PART, Lines, between

SECOND = (  # of a time: its first SECOND_BYTES
    rb"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
)
SECOND_BYTES = 19
AFTER_SECOND = rb"(?:\.[0-9]{1,9}+|)(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_TIME = SECOND + AFTER_SECOND
_TIMES = re.compile(rb"(?:" + _TIME + rb"\n)*+")  # possessive: nothing is remembered for a second try
_FIELDS = rb"(" + _TIME + rb") (stdout|stderr) (F|P)(?::[^ ]*)?"
_HEADER = re.compile(_FIELDS + rb" ")
_LINE = re.compile(_FIELDS + rb"(?: (.*))?", re.DOTALL)

Columns = tuple[
    list[bytes], list[bytes], list[bytes], list[bytes]
]  # times, streams, tags (b"" for what is no CRI line), bodies


def regular(data: bytes, offset: int, *, limit: int) -> tuple[Lines, Columns] | None:
    """Lines and `columns` at once, of a chunk of whole lines that are all as the runtimes write them, and not too long.

    None for any other chunk. What is looked at here is in the processor's cache, so one loop is worth more than many
    columns.
    """
    fields: list[bytes] = []
    sizes: list[int] = []
    for line in io.BytesIO(data):
        fields += line[:-1].split(b" ", 3)
        sizes.append(len(line))
    times, streams, tags, bodies = fields[0::4], fields[1::4], fields[2::4], fields[3::4]
    n = len(sizes)
    if not n or len(fields) != 4 * n or max(sizes) > limit or not data.endswith(b"\n"):
        return None
    if tags.count(FULL) + tags.count(PART) != n or streams.count(b"stdout") + streams.count(b"stderr") != n:
        return None
    if _TIMES.fullmatch(b"\n".join(times) + b"\n") is None:
        return None
    return between(offset, sizes, bodies), (times, streams, tags, bodies)


def columns(texts: list[bytes]) -> Columns:
    """Of complete lines. A line that is no CRI line has tag and time b"", and is its own body."""
    times, streams, tags, bodies = [], [], [], []
    for text in texts:
        match = _LINE.fullmatch(text)
        times.append(match[1] if match else b"")
        streams.append(match[2] if match else b"stdout")
        tags.append(match[3] if match else b"")
        bodies.append((match[4] or b"") if match else text)
    return times, streams, tags, bodies


def is_cri(line: bytes) -> bool:
    return _LINE.fullmatch(line) is not None


def first_piece(text: bytes, limit: int) -> int:
    """How many bytes of a line stand before its first cut: its header, and `limit` bytes of content."""
    header = _HEADER.match(text, 0, limit)
    return limit + (header.end() if header else 0)
