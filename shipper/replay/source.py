"""Where archived objects are: below a prefix of a bucket, or below a folder, as a copy of one."""

import asyncio
import importlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import IO, Protocol

from shipper.config.model import Config
from shipper.errors import ShipperError
from shipper.outputs.s3.bucket import Downloads, Listed
from shipper.outputs.s3.config import S3Config
from shipper.outputs.s3.trouble import THROTTLED, S3Error
from shipper.outputs.worker import Retry

SCHEME = "s3://"
ATTEMPTS = 6  # of a request, over some 15 s
_PASSES = frozenset({THROTTLED, "timeout", "connection", "unreachable", "server"})
_ONLY_HERE = frozenset({"cold", "gone"})  # troubles of one object


class Unreadable(ShipperError):
    """One object cannot be read; others may be."""


class ObjectSource(Protocol):
    """`outputs`: of the configuration, those that write there."""

    outputs: Sequence[S3Config]

    def objects(self) -> AsyncIterator[Listed]:
        """In the order of their keys."""

    async def open(self, listed: Listed) -> IO[bytes]:
        """The whole object, on this machine's disk. Raises Unreadable, and ShipperError when nothing can be read."""

    async def close(self) -> None: ...


async def open_source(name: str, config: Config) -> ObjectSource:
    """`s3://BUCKET/PREFIX`, reached as the output of this bucket in `config` is, or else as the SDK finds; or a path.

    Raises ShipperError for what is neither.
    """
    if not name.startswith(SCHEME):
        path = Path(name)
        if not await asyncio.to_thread(path.exists):
            raise ShipperError(f"{name} is neither s3://BUCKET/PREFIX nor a file or folder")
        return FolderSource(path)
    bucket, _, prefix = name.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise ShipperError(f"{name} names no bucket: write s3://BUCKET/PREFIX")
    configured = [o for o in config.outputs if isinstance(o, S3Config) and o.bucket == bucket]
    api = await asyncio.to_thread(importlib.import_module, "shipper.outputs.s3.download")
    reader = api.DownloadApi(configured[0] if configured else S3Config(bucket=bucket), lambda _status: None)
    return S3Source(reader, prefix, configured, state_dir=config.service.state_dir)


class S3Source:
    """Objects are downloaded whole before they are read: a slow destination keeps no connection waiting."""

    def __init__(
        self, reader: Downloads, prefix: str, outputs: Sequence[S3Config], *, state_dir: str, retry: Retry | None = None
    ) -> None:
        self.outputs = outputs
        self._state_dir = state_dir
        self._reader, self._prefix, self._retry = reader, prefix, retry or Retry()

    async def objects(self) -> AsyncIterator[Listed]:
        after = ""
        while page := await self._page(after):
            for listed in page:
                yield listed
            after = page[-1].key

    async def open(self, listed: Listed) -> IO[bytes]:
        try:
            file = await asyncio.to_thread(_temporary_file, self._state_dir)
        except OSError as exc:
            raise ShipperError("no temporary folder can be written to: set TMPDIR to one") from exc
        try:
            await self._download(listed, file)
            file.seek(0)
        except OSError as exc:
            file.close()
            sentence = f"{listed.key} cannot be kept on this machine's disk: {exc.strerror}"
            raise ShipperError(f"{sentence}; set TMPDIR to a folder with {listed.size:,} bytes of room") from exc
        except BaseException:
            file.close()
            raise
        return file

    async def _download(self, listed: Listed, file: IO[bytes]) -> None:
        """Goes on where a connection broke."""
        attempt = 0
        while True:
            try:
                async with aclosing(self._reader.read(listed, file.tell())) as pieces:
                    async for piece in pieces:
                        await asyncio.to_thread(file.write, piece)
                break
            except S3Error as exc:
                if exc.trouble.reason in _ONLY_HERE:
                    raise Unreadable(_sentence(exc)) from exc
                await self._wait_after(exc, attempt)
                attempt += 1
        if file.tell() != listed.size:
            raise Unreadable(f"it has {file.tell()} bytes, and not the {listed.size} that the bucket's list says")

    async def close(self) -> None:
        await self._reader.close()

    async def _page(self, after: str) -> list[Listed]:
        attempt = 0
        while True:
            try:
                return await self._reader.page(self._prefix, after=after)
            except S3Error as exc:
                await self._wait_after(exc, attempt)
                attempt += 1

    async def _wait_after(self, exc: S3Error, attempt: int) -> None:
        if exc.trouble.reason not in _PASSES or attempt + 1 >= ATTEMPTS:
            raise ShipperError(_sentence(exc)) from exc
        await asyncio.sleep(max(self._retry.delay_s(attempt), exc.delay_s))


class FolderSource:
    """One file, or all below a folder. Keys are paths, relative to the folder."""

    def __init__(self, path: Path) -> None:
        self.outputs: Sequence[S3Config] = ()
        self._path = path

    async def objects(self) -> AsyncIterator[Listed]:
        try:
            found = await asyncio.to_thread(lambda: sorted(self._files()))
        except OSError as exc:
            raise ShipperError(f"{self._path} cannot be listed: {exc.strerror}") from exc
        for listed in found:
            yield listed

    async def open(self, listed: Listed) -> IO[bytes]:
        path = self._path / listed.key if listed.key else self._path
        try:
            return await asyncio.to_thread(_open, path)
        except OSError as exc:
            raise Unreadable(f"it cannot be opened: {exc.strerror}") from exc

    async def close(self) -> None:
        """Nothing is open."""

    def _files(self) -> Iterator[Listed]:
        if self._path.is_file():
            yield _listed(self._path, "")
        for path in self._path.rglob("*"):
            if path.is_file():
                yield _listed(path, path.relative_to(self._path).as_posix())


def _listed(path: Path, key: str) -> Listed:
    found = path.stat()
    return Listed(key, found.st_size, found.st_mtime, f"{found.st_ino}-{found.st_mtime_ns}")


def _temporary_file(state_dir: str) -> IO[bytes]:
    """Without a name. In a pod whose root is read-only there is no usual place for it."""
    try:
        return tempfile.TemporaryFile()
    except FileNotFoundError:
        return tempfile.TemporaryFile(dir=state_dir)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _sentence(exc: S3Error) -> str:
    return exc.trouble.sentence + (f"; {exc.trouble.mend}" if exc.trouble.mend else "")
