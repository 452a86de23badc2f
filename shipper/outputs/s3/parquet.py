"""Parquet out of spooled documents, and documents out of Parquet. The only module that imports pyarrow.

Everything here blocks, and needs memory for one row group. The same documents give the same bytes, as far as the
library's version is the same.

Times are in microseconds, since Spark (4.3) refuses nanoseconds: `time_text` has them all, as they were written.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from shipper.errors import ShipperError
from shipper.outputs.s3.columns import MAPS, NAMES, Pods, Record, document_of, kubernetes_of, pod_columns, record_of
from shipper.outputs.s3.compression import Compression, NotWhole

GROUP_BYTES = 8 * 2**20  # of documents in a row group
PAGE_RECORDS = 500  # that are read at once
_CODECS: dict[Compression, str] = {"gzip": "gzip", "zstd": "zstd", "none": "none"}
_TEXTS = pa.map_(pa.string(), pa.string())
_TIME = pa.timestamp("us", "UTC")
_OF_POD = (*((name, pa.string()) for name in NAMES), *((name, _TEXTS) for name in MAPS), ("kubernetes", pa.string()))
_OF_RECORD = (
    ("file_path", pa.string()),
    ("file_offset", pa.int64()),
    ("message", pa.string()),
    ("truncated", pa.bool_()),
    ("parse_error", pa.string()),
    ("fields", pa.string()),
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("time", _TIME),
        ("time_text", pa.string()),
        ("stream", pa.string()),
        *_OF_POD,
        *_OF_RECORD,
    ]
)


class OtherColumns(ShipperError):
    """It is Parquet, but no archive of ours."""


def write(lines: Iterable[bytes], path: Path, *, compression: Compression) -> None:
    """`lines`: documents without newlines. Raises OSError when the disk refuses."""
    with pq.ParquetWriter(path, SCHEMA, compression=_CODECS[compression], write_page_checksum=True) as writer:
        for group in _groups(lines):
            writer.write_batch(_batch(group), row_group_size=len(group))
    pa.default_memory_pool().release_unused()


def _groups(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for line in lines:
        group.append(line)
        size += len(line)
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _batch(documents: list[bytes]) -> pa.RecordBatch:
    pods = Pods()
    records = [record_of(document, pods) for document in documents]
    columns = dict(zip(Record._fields, zip(*records, strict=True), strict=True))
    arrays = {name: pa.array(columns[name], kind) for name, kind in _OF_RECORD}
    arrays |= {name: pa.array(columns[name], pa.string()) for name in ("id", "time_text", "stream")}
    arrays["time"] = _times(arrays["time_text"])
    places, parts = pa.array(columns["pod"], pa.int32()), [pod_columns(one) for one in pods.objects]
    arrays |= {name: pa.array([part.get(name) for part in parts], kind).take(places) for name, kind in _OF_POD}
    return pa.record_batch([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _times(texts: pa.Array) -> pa.Array:
    """Null for what is none, or further away than nanoseconds can count."""
    try:
        return texts.cast(pa.timestamp("ns", "UTC")).cast(_TIME, safe=False)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, _TIME)
        middle = len(texts) // 2
        return pa.concat_arrays([_times(texts[:middle]), _times(texts[middle:])])


def read(file: IO[bytes]) -> Iterator[list[bytes]]:
    """Documents, without newlines. Raises OtherColumns, and NotWhole."""
    return map(_documents, _batches(file))


def check(file: IO[bytes]) -> None:
    """Raises OtherColumns, and NotWhole."""
    for _ in _batches(file):
        """To its end."""


def _batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    file.seek(0)
    try:
        table = pq.ParquetFile(file, page_checksum_verification=True)
        if table.schema_arrow.remove_metadata() != SCHEMA:
            raise OtherColumns("it is Parquet with other columns than an archive has")
        yield from table.iter_batches(PAGE_RECORDS)
    except (pa.ArrowException, OSError) as exc:
        raise NotWhole(f"its Parquet is damaged: {exc}") from exc


def _documents(batch: pa.RecordBatch) -> list[bytes]:
    columns: dict[str, list[Any]] = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    known: dict[str, int] = {}
    kubernetes: list[bytes] = []
    found = []
    for i in range(batch.num_rows):
        pod = None
        if columns["stream"][i] is not None:
            parts = {name: columns[name][i] for name, _ in _OF_POD}
            pod = known.setdefault(repr(parts), len(kubernetes))
            if pod == len(kubernetes):
                kubernetes.append(kubernetes_of(parts))
        values: list[Any] = [pod if name == "pod" else columns[name][i] for name in Record._fields]
        found.append(document_of(Record(*values), kubernetes))
    return found
