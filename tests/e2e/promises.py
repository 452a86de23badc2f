"""What a state promises, and whether the disk that it was found on keeps it."""

import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

import msgspec

from shipper import checkpoint
from shipper.checkpoint import Stored
from shipper.dead_letters import FILE_NAME, DeadLetters
from shipper.ledger import DEAD
from shipper.outputs.file import FileRow
from shipper.outputs.s3.manifest import ROW_PREFIX
from shipper.outputs.s3.spool import SpooledObject
from tests.fakes.lossy_disk import File

Found = Mapping[PurePath, tuple[File, bytes] | None]
Acked = Mapping[tuple[int, str], int]  # (generation, output) -> bytes

GZIP_FORMAT = 31


class Promises:
    """Of the daemon of `tests.e2e.power_loss`, whose state is in `state_dir`. `scratch` is an empty folder."""

    def __init__(self, state_dir: PurePath, scratch: Path, inodes: Mapping[int, int]) -> None:
        """`inodes`: of files, by their numbers on the model's disk."""
        self._state_dir, self._scratch, self._inodes = state_dir, scratch, inodes
        self._stored: Stored | None = None

    def look(self, found: Found) -> None:
        """Opens the state as it was found, as any process would."""
        shutil.rmtree(self._scratch)
        self._scratch.mkdir()
        for path, node in found.items():
            if node is not None and path.parent == self._state_dir:
                (self._scratch / path.name).write_bytes(node[1])
        is_there = (self._scratch / checkpoint.FILE).exists()
        self._stored = checkpoint.Checkpoint(self._scratch).load() if is_there else None
        assert not list(self._scratch.glob("*.corrupt-*")), "the checkpoint was found to be corrupt"

    def acked(self) -> Acked:
        if self._stored is None:
            return {}
        return {(g, output): row.acked for g, rows in self._stored.cursors.items() for output, row in rows.items()}

    def broken(self, found: Found) -> list[str]:
        """Sentences; `look` comes first."""
        if self._stored is None:
            return []
        rows = self._stored.rows
        objects = (row for key, row in rows.get("archive", {}).items() if not key.startswith(ROW_PREFIX))
        spooled = (msgspec.json.decode(row, type=SpooledObject) for row in objects)
        filed = {PurePath(path): msgspec.json.decode(row, type=FileRow) for path, row in rows.get("files", {}).items()}
        return [*self._spool(spooled, found), *self._files(filed, found), *self._letters(self._stored)]

    def _spool(self, rows: Iterable[SpooledObject], found: Found) -> Iterator[str]:
        for row in rows:
            node = found.get(self._state_dir / "spool" / "archive" / row.id)
            content = node[1] if node is not None else b""
            try:
                plain = zlib.decompressobj(GZIP_FORMAT).decompress(content[: row.length])
            except zlib.error:
                plain = b""
            whole = (len(content) >= row.length, len(plain) == row.plain_bytes, zlib.crc32(plain) == row.crc32)
            if not all(whole):
                yield f"the spooled object {row.id} has not its {row.length} bytes"

    def _files(self, rows: Mapping[PurePath, FileRow], found: Found) -> Iterator[str]:
        """A file that was rotated since is beside its own name."""
        by_inode = {self._inodes.get(node[0].number): node for node in found.values() if node is not None}
        for path, row in rows.items():
            file, content = by_inode.get(row.inode) or (File(), b"")
            if row.length and content[: row.length] != file.now[: row.length]:
                yield f"the file {path} has not its {row.length} bytes"

    def _letters(self, stored: Stored) -> Iterator[str]:
        promised = Counter[tuple[str, int]]()
        for generation, rows in stored.cursors.items():
            for output, row in rows.items():
                promised[output, generation] += row.fates.get(DEAD, 0)
        if (self._scratch / FILE_NAME).exists():
            store = DeadLetters.open(self._scratch, 2**30)
            promised.subtract(_bytes_of(store))
            store.close()
        for (output, generation), size in (+promised).items():
            yield f"{size} bytes of dead letters of {output} in generation {generation} are not there"


def _bytes_of(store: DeadLetters) -> Counter[tuple[str, int]]:
    sizes = Counter[tuple[str, int]]()
    for letter in store.select(limit=100_000):
        sizes[letter.output, letter.generation] += letter.source_bytes
    return sizes


def went_back(before: Acked, now: Acked) -> list[str]:
    """What was durable before, and is not so now."""
    return [
        f"the cursor of {key} is at {now.get(key, 0)}, not {at}" for key, at in before.items() if now.get(key, 0) < at
    ]
