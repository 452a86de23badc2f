"""What the archive asks of an object store. `api` is the one for S3; tests have one in memory."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from shipper.outputs.s3.checksum import Checksum
from shipper.outputs.s3.config import S3Config


class Bucket(Protocol):
    """A handful of requests, made once each: every method raises `trouble.S3Error` when it did not work.

    Where the store can tell, nothing is written over an object: `put` and `complete_upload` raise AlreadyThere, as does
    `put_manifest` unless it may replace. What
    concerns an upload in parts raises NoSuchUpload when there is none (any more).
    """

    async def put(self, key: str, body: bytes) -> str:
        """What the server was told to check, and tells of the object since: `crc32:...`."""

    async def put_manifest(self, key: str, body: bytes, *, replace: bool) -> None:
        """A list of objects, in the default storage class. `replace`: what has the key is ours, and gives way."""

    async def begin_upload(self, key: str) -> str:
        """Returns the upload's id."""

    async def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> dict[str, Any]:
        """Returns what `complete_upload` wants to know of the part. Numbers count from 1."""

    async def complete_upload(self, key: str, upload_id: str, parts: list[dict[str, Any]]) -> str:
        """As `put`."""

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """It is no error when there is none."""

    async def delete(self, key: str) -> None: ...

    async def close(self) -> None: ...


class Listed(NamedTuple):
    """An object, as the bucket's list has it."""

    key: str
    size: int
    modified: float  # epoch seconds
    version: str  # another one when its bytes are others


class Head(NamedTuple):
    """What the store tells of an object without its bytes."""

    size: int
    checksums: Mapping[Checksum, str]  # base64, as far as it has them; of an object that went up in parts: `...-3`
    storage_class: str


class Downloads(Protocol):
    """What commands that read an archive ask, with rights that the daemon does without. Requests are made once each,
    and raise `trouble.S3Error`: its trouble is `cold` or `gone` where only this one object cannot be read.
    """

    async def page(self, prefix: str, *, after: str = "", at_most: int = 1000) -> list[Listed]:
        """Up to `at_most` objects (of 1,000) whose keys begin so, in order, behind the key `after`."""

    def read(self, listed: Listed, start: int) -> AsyncGenerator[bytes]:
        """The object's bytes from `start` on; refused when it is not the listed one any more."""

    async def head(self, key: str) -> Head | None:
        """None where there is no such object."""

    async def close(self) -> None: ...


OpenBucket = Callable[[S3Config, Callable[[str], None]], Awaitable[Bucket]]
