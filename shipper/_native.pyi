from collections.abc import Sequence
from typing import Self, SupportsIndex

from shipper.record import Extent

API: int

class Body:
    @property
    def capacity(self) -> int: ...
    def __len__(self) -> int: ...
    def __iadd__(self, data: bytes, /) -> Self: ...
    def __delitem__(self, place: slice, /) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Keys:
    def __new__(cls, names: Sequence[str]) -> Self: ...

class Places(Sequence[Extent]):
    def __len__(self) -> int: ...
    def __getitem__(self, index: SupportsIndex, /) -> Extent: ...  # type: ignore[override]

def count_lines(data: bytes) -> int: ...
def encode_cri(
    chunk: bytes,
    offset: int,
    body: Body,
    *,
    id_prefix: bytes | None,
    before_time: bytes,
    after_stdout: bytes,
    after_stderr: bytes,
    offset_tail: bytes | None,
    keys: Keys,
    merge: bool,
    keep_message: bool,
    limit: int,
    last_time: bytes,
    is_final: bool,
    known: int,
    time_prefix: bytes,
) -> tuple[int, int, int, bytes | None, int, list[tuple[int, int]], Sequence[Extent] | None, int, int, int] | None: ...
