"""The buffer that documents of a batch are appended to, and that a request is sent from: nothing is copied in between.

Its memory stays when it is emptied, since fresh pages for each batch cost as much as filling them. It is the native
twin's where that is used, and else one in here; a `bytearray` will do for what is used once. All refuse to be changed
while somebody holds a view of them.
"""

from collections.abc import Sequence
from typing import Any, Protocol, Self

from shipper import native

_MOST_TIMES = 4  # of what it held: then there was a rush, which is over
_GROWTH_BYTES = 256 * 1024  # at least
_FEW_DOCUMENTS = 16


class Body(Protocol):
    """To be read by `view_of`."""

    def __len__(self) -> int: ...

    def __iadd__(self, data: bytes, /) -> Self: ...

    def __delitem__(self, place: slice, /) -> None:
        """Only its end is ever cut off: `del body[start:]`."""


class PlainBody:
    """The native body's twin, for one thread. Classes export their memory by themselves from Python 3.12 on only."""

    __slots__ = ("_memory", "_size")

    def __init__(self) -> None:
        self._memory = bytearray()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return bytes(self.view())

    def __iadd__(self, data: bytes, /) -> Self:
        end = self._size + len(data)
        self._refuse_while_viewed()
        if end > len(self._memory):
            self._memory += bytes(max(end - len(self._memory), len(self._memory) // 4, _GROWTH_BYTES))
        with memoryview(self._memory) as memory:
            memory[self._size : end] = data
        self._size = end
        return self

    def __delitem__(self, place: slice, /) -> None:
        start, stop, step = place.indices(self._size)
        if step != 1 or (start < stop and stop != self._size):
            raise IndexError("only the end of a body can be cut off")
        self._refuse_while_viewed()
        self._size = min(start, self._size)

    @property
    def capacity(self) -> int:
        """Bytes that it holds memory for."""
        return len(self._memory)

    def view(self) -> memoryview:
        return memoryview(self._memory)[: self._size].toreadonly()

    def _refuse_while_viewed(self) -> None:
        """Raises BufferError, as any change of the memory's length does then."""
        self._memory.append(0)
        self._memory.pop()


_WITH_MEMORY: tuple[Any, ...] = (PlainBody,) if native.MODULE is None else (PlainBody, native.MODULE.Body)


def new_body() -> Body:
    return native.MODULE.Body() if native.MODULE is not None else PlainBody()


def view_of(body: Body) -> memoryview:
    """Its bytes as they are now; to be released before it may change again."""
    return body.view() if isinstance(body, PlainBody) else memoryview(body)  # type: ignore[arg-type]


def is_fresh(body: Body) -> bool:
    """Whether nothing was ever written to it, so that it holds no memory."""
    return isinstance(body, _WITH_MEMORY) and body.capacity == 0


def recycle(body: Body) -> bool:
    """Empties it, and keeps its memory. False where it has none to keep, more than it needs, or is looked at."""
    if not isinstance(body, _WITH_MEMORY) or body.capacity > _MOST_TIMES * len(body):
        return False
    try:
        del body[:]
    except BufferError:
        return False
    return True


def append(pieces: Sequence[bytes], documents: int, into: Body) -> None:
    """The pieces of so many documents. Where these are few they may be large: one copy less."""
    if documents < _FEW_DOCUMENTS:
        for piece in pieces:
            into += piece
    else:
        into += b"".join(pieces)
