"""What travels: the words of the data path, as types.

A *chunk* is complete records of one container, in order, with the byte range of the file that they came from. Its
records exist as columns (shipper.encode) or as document bytes; there is no class for one record, on purpose.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, NewType

import msgspec

Tag = NewType("Tag", str)
Offset = NewType("Offset", int)  # position of the next byte to read, decompressed

Ranges = tuple[tuple[int, int], ...]  # half-open, sorted, apart from each other
Extent = tuple[int, int, int]  # of a record in its file: begin, end, bytes of its own lines


class State(msgspec.Struct, frozen=True, gc=False):
    """What parsing at an offset needs to know of the bytes before it; saved with a cursor.

    It depends only on the file's bytes, so a re-read gives the same records.
    """

    last_time: bytes = b""  # of the line before, for lines that have none of their own
    inside: bytes = b""  # stream and tag (`stdout P`) of the too long line that this offset stands in; `- F` without
    cut: tuple[bytes, ...] = ()  # streams whose record was cut here by the size limit: what follows is marked too


START = State()


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where the records of a log file come from, as far as its path tells: never lost, whatever the API says.

    `path` is that of the live file, without a rotation's suffix. `namespace` and what follows it are None for a file
    that is not a container's.
    """

    input: str
    path: str
    namespace: str | None = None
    pod: str | None = None
    uid: str | None = None  # of the path: for a static pod the hash of its manifest
    container: str | None = None
    restart: int | None = None

    @property
    def is_container(self) -> bool:
        return self.container is not None

    def value(self, placeholder: str) -> str | None:
        """For templates: `namespace`, `pod`, `container`; `path`, `dir`, `file`, `stem`. None for what it has not."""
        if placeholder in _OF_CONTAINER:
            return _OF_CONTAINER[placeholder](self)
        folder, _, file = self.path.rpartition("/")
        stem = file.rpartition(".")[0] or file
        return {"path": self.path, "dir": folder.rpartition("/")[2], "file": file, "stem": stem}.get(placeholder)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}/{self.container}" if self.is_container else self.path


_OF_CONTAINER: dict[str, Callable[[Source], str | None]] = {
    name: attrgetter(name) for name in ("namespace", "pod", "container")
}


class Envelope(NamedTuple):
    """The bytes around a record's own in its document; encoded once per container, output form and target.

    A document is written as
        [id_prefix  <begin, hex> - <end, hex>]  before_time  <time>  after_time[stream]  [<begin, decimal> offset_tail]
    and then the message: `,"message":"..."}` or the members of a JSON object and `}`, and a newline. So
    `before_time` ends with `"@timestamp":"`, and `after_time` with the `"` that closes the time and all members up
    to the message, without a comma at its end.
    """

    id_prefix: bytes | None
    before_time: bytes
    after_time: tuple[bytes, bytes]  # for stdout, for stderr
    offset_tail: bytes | None = None  # for files that are no container's: what follows the digits of file.offset
