"""Newline-delimited JSON files, a document a line. Each record is in its file once, also after a crash.

A file's row (inode and length) is committed before its first byte is written, and again with the cursors of what was
appended. So what the file holds behind the committed length is confirmed by nobody, and is cut off at the next start.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from isal import isal_zlib

from shipper.body import view_of
from shipper.delivery import DELIVERED, Batch, Delivery
from shipper.durable import make_folder
from shipper.errors import Disconnected, StateError
from shipper.log import fields
from shipper.outputs.appended_files import (
    FileDamaged,
    FileRows,
    FileThread,
    create,
    refused_by_disk,
    sync_files,
    write_at,
)
from shipper.outputs.base import Durable, Finding, Host
from shipper.outputs.config import NAME, OutputConfig, Target
from shipper.values import Count, Doc, Name, PositiveSize

log = logging.getLogger(__name__)

MAX_KNOWN = 1024  # files whose length is kept; the least recently used is forgotten, and found again by a commit
MAX_NAME_BYTES = 240  # of the 255 that file systems allow: rotation adds to it
_ISAL_LEVEL = 2


class RotateConfig(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: Annotated[PositiveSize, Doc("Size at which a file is set aside and a new one begun.")]
    keep: Annotated[Count, Doc("How many of those set aside are kept.")] = 5


class FileConfig(OutputConfig, frozen=True, kw_only=True):
    """Newline-delimited JSON files, a document a line."""

    kind: ClassVar[str] = "file"
    name: Annotated[Name, NAME] = "file"
    path: Annotated[
        Target, Doc("Path of files; folders are made. A relative one is relative to the working directory.")
    ]
    compression: Annotated[Literal["gzip", "none"], Doc("Of files; a `.gz` is not added by itself.")] = "none"
    rotate: Annotated[RotateConfig | None, Doc("Without it, files grow.")] = None


class FileRow(msgspec.Struct):
    """The file at a path, as far as it is confirmed. Later fields need a default: old rows are read too."""

    inode: int
    length: int  # bytes


class _Group(NamedTuple):
    path: Path
    row: FileRow
    data: bytes


class FileOutput:
    """Appends documents to files. Nobody else may write to a file while this output does."""

    kind = "file"
    target_style: Literal["index", "key", "path"] = "path"
    lines_per_record = 1
    concurrency = 1  # so that the records of a container stay in order

    def __init__(self, config: FileConfig) -> None:
        self.name = config.name
        self.template = config.path
        self.max_batch_bytes = config.batch.max_bytes
        self.max_batch_age_s = config.batch.max_age
        self._config = config
        self._rows = FileRows()
        self.durable: Durable | None = self._rows
        self._thread = FileThread(config.name)
        self._known: dict[Path, FileRow] = {}  # the least recently used first
        self._fresh: set[Path] = set()  # those of which no row is committed yet: nothing may be written to them

    def __repr__(self) -> str:
        return f"<FileOutput {self.name} to {self._config.path}>"

    def frame(self, target: str) -> tuple[bytes | None, bytes]:  # noqa: ARG002  one frame for all files
        return None, b"{"

    async def start(self, host: Host) -> None:
        self._host = host
        self._known = await self._thread.run(_restore, host.rows(self.name))

    async def send(self, batch: Batch) -> Delivery:
        documents = _by_path(batch)
        with refused_by_disk():
            await self._begin(list(documents))
            if self._config.rotate is not None:
                await self._rotate(list(documents), self._config.rotate)
            groups = [_Group(path, self._known[path], data) for path, data in documents.items()]
            try:
                lengths = await self._thread.run(_append_all, groups, compress=self._config.compression == "gzip")
            except FileDamaged as exc:
                del self._known[exc.path]  # the next attempt takes it up as it is then
                raise Disconnected(str(exc), reason="disk", ambiguous=False) from exc
        # No await from here on: the rows change in the step in which the records are confirmed.
        for group, length in zip(groups, lengths, strict=True):
            group.row.length = length
            self._know(group.path, group.row)
        self._forget_some()
        return DELIVERED

    async def drain(self) -> None:
        """Nothing is kept back."""

    async def close(self) -> None:
        await self._thread.close()

    async def check(self) -> list[Finding]:
        return [await asyncio.to_thread(_check_folder, self.name, self._fixed_folder())]

    def status(self) -> dict[str, Any]:
        return {"path": str(self._config.path), "files": len(self._known)}

    async def _begin(self, paths: list[Path]) -> None:
        """Takes up files that are new to this output, or were replaced by somebody: behind what they hold already."""
        begun = await self._thread.run(_take_up, [(path, self._known.get(path)) for path in paths])
        await self._commit(paths, begun)

    async def _rotate(self, paths: list[Path], rotate: RotateConfig) -> None:
        large = [path for path in paths if self._known[path].length >= rotate.max_bytes]
        if large:
            await self._host.committed()  # what is set aside is confirmed to its last byte
            await self._commit(large, await self._thread.run(_set_aside, large, rotate.keep))

    async def _commit(self, paths: list[Path], begun: Mapping[Path, FileRow]) -> None:
        """Rows of files into which nothing was written yet; also of an earlier send, which was cancelled meanwhile."""
        self._fresh |= begun.keys()
        for path, row in begun.items():
            self._know(path, row)
        if not self._fresh.isdisjoint(paths):
            await self._host.committed()
            self._fresh -= set(paths)

    def _know(self, path: Path, row: FileRow) -> None:
        self._known.pop(path, None)
        self._known[path] = row
        self._rows.put(str(path), row, path)

    def _forget_some(self) -> None:
        for path in list(self._known)[: max(len(self._known) - MAX_KNOWN, 0)]:
            del self._known[path]
            self._rows.delete(str(path))

    def _fixed_folder(self) -> Path:
        """What all paths begin with: the template up to the last `/` before its first placeholder."""
        first = self.template.parts[0] if self.template.parts else ""
        return Path(first[: first.rfind("/") + 1] if isinstance(first, str) else "")


def _by_path(batch: Batch) -> dict[Path, bytes]:
    """Documents of each file in order; copied, since the batch's buffer may be used again once `send` is cancelled."""
    parts: dict[Path, list[memoryview]] = {}
    with view_of(batch.body) as body:
        for piece in batch.pieces:
            parts.setdefault(_valid_path(piece.target), []).append(body[piece.start : piece.end])
        return {path: b"".join(documents) for path, documents in parts.items()}


def _valid_path(target: str) -> Path:
    """JSON may hold lone surrogates, and names of any length; a file system takes neither."""
    path = Path(target.encode(errors="replace").decode())
    return Path(*(part.encode()[:MAX_NAME_BYTES].decode(errors="ignore") for part in path.parts))


def _restore(rows: Mapping[str, bytes]) -> dict[Path, FileRow]:
    """Cuts files back to what is confirmed. One that has another inode by now is another file, and left as it is."""
    known = {}
    for key, encoded in rows.items():
        path = Path(key)
        try:
            row = msgspec.json.decode(encoded, type=FileRow)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise StateError(f"the state's row of the file {path} cannot be read: {exc}") from exc
        try:
            found = path.stat()
            if found.st_ino != row.inode:
                continue
            if found.st_size < row.length:
                log.error("a file has become shorter than what was written to it", extra=fields(path=key))
                continue
            os.truncate(path, row.length)
        except FileNotFoundError:
            continue
        except OSError as exc:  # the next append cuts it too, or says why it cannot
            log.warning("a file cannot be cut back", extra=fields(path=key, error=str(exc)))
        known[path] = row
    return known


def _take_up(files: list[tuple[Path, FileRow | None]]) -> dict[Path, FileRow]:
    begun = {}
    for path, row in files:
        if row is not None and path.exists() and path.stat().st_ino == row.inode:
            continue  # and not deleted or renamed, as by somebody's own rotation
        make_folder(path.parent)
        found = create(path)
        begun[path] = FileRow(found.st_ino, found.st_size)
    return begun


def _append_all(groups: list[_Group], *, compress: bool) -> list[int]:
    """The files' lengths then. Nothing counts if one fails: what was written lies behind the lengths that count."""
    return [_append(group, compress=compress) for group in groups]


def _append(group: _Group, *, compress: bool) -> int:
    """With `compress`, a gzip member of its own: they may follow each other (RFC 1952)."""
    data = isal_zlib.compress(group.data, _ISAL_LEVEL, 31) if compress else group.data
    write_at(group.path, group.row.length, data)
    return group.row.length + len(data)


def _set_aside(paths: list[Path], keep: int) -> dict[Path, FileRow]:
    """`x` becomes `x.1`, `x.1` becomes `x.2`, ..., and what is behind `keep` goes."""
    begun = {}
    for path in paths:
        aside = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1))]
        aside[-1].unlink(missing_ok=True)
        for newer, older in reversed(list(itertools.pairwise(aside))):
            if newer.exists():
                newer.rename(older)
        begun[path] = FileRow(create(path).st_ino, 0)
    sync_files(paths)
    return begun


def _check_folder(name: str, folder: Path) -> Finding:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Finding(ok=True, what=f"{name}: files can be written below {folder}")
    mend = f"make it a folder that uid {os.geteuid()} may write to"
    return Finding(ok=False, what=f"{name}: files cannot be written: no right to write to {existing}", mend=mend)
