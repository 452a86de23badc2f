"""Archived documents as Parquet: a table that does not change, and nothing lost on the way there and back."""

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from shipper.outputs.s3 import parquet
from shipper.outputs.s3.compression import NotWhole
from shipper.outputs.s3.parquet import OtherColumns, read, write

DOCS = Path(__file__).parents[3] / "docs/archive.md"
STABLE = {
    "id": "string",
    "time": "timestamp[us, tz=UTC]",
    "time_text": "string",
    "stream": "string",
    "namespace_name": "string",
    "pod_name": "string",
    "pod_id": "string",
    "container_name": "string",
    "host": "string",
    "container_image": "string",
    "labels": "map<string, string>",
    "annotations": "map<string, string>",
    "kubernetes": "string",
    "file_path": "string",
    "file_offset": "int64",
    "message": "string",
    "truncated": "bool",
    "parse_error": "string",
    "fields": "string",
}


def document(number: int, *, pod: int = 0, **members: Any) -> bytes:
    time = f"2026-11-21T10:00:{number % 60:02}.{number % 1000:03}456789Z"
    kubernetes = {
        "namespace_name": "shop" if pod % 2 else "bank",
        "pod_name": f"cart-{pod}",
        "pod_id": f"uid-{pod}",
        "container_name": "app",
        "host": "node-1",
        "labels": {"app": "cart", "app.kubernetes.io/name": f"cart-{pod}"},
        "owner": {"kind": "Deployment", "name": "cart"},
    }
    whole = {
        "_id": f"1f-{pod}-{number:x}-{number + 1:x}",
        "@timestamp": time,
        "stream": "stdout",
        "kubernetes": kubernetes,
        **(members or {"message": f"line {number}"}),
    }
    return json.dumps(whole, separators=(",", ":")).encode()


@pytest.fixture
def lines() -> list[bytes]:
    return [
        *(document(n, pod=n // 7 % 3, level="info", ms=n / 4, status=200 + n % 5) for n in range(600)),
        *(document(n) for n in range(600, 1000)),
    ]


def written(tmp_path: Path, lines: list[bytes], name: str = "a.parquet") -> Path:
    write(lines, tmp_path / name, compression="zstd")
    return tmp_path / name


def documents(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [json.loads(line) for page in read(file) for line in page]


def test_the_columns_are_those_that_were_promised(tmp_path: Path, lines: list[bytes]) -> None:
    assert {field.name: str(field.type) for field in parquet.SCHEMA} == STABLE
    assert pq.read_schema(written(tmp_path, lines)).equals(parquet.SCHEMA)
    assert documents(written(tmp_path, lines)) == [json.loads(line) for line in lines]


def test_the_columns_are_the_same_whatever_is_in_them(tmp_path: Path) -> None:
    others = [b'{"@timestamp":"x","file":{"path":"/a","offset":1},"n":1}', b'{"odd":[]}']
    assert pq.read_schema(written(tmp_path, others)).equals(parquet.SCHEMA)
    assert documents(written(tmp_path, others)) == [json.loads(line) for line in others]


def test_times_are_read_to_the_microsecond_and_kept_to_the_nanosecond(tmp_path: Path) -> None:
    texts = ["2026-11-21T10:00:00.123456789Z", "2026-11-21T12:00:00.5+02:00", "9999-01-01T00:00:00Z", "no time"]
    path = written(tmp_path, [b'{"@timestamp":"%b","message":"m"}' % text.encode() for text in texts])
    table = pq.read_table(path)
    assert table.column("time_text").to_pylist() == texts
    times = table.column("time").cast(pa.string()).to_pylist()
    assert times == ["2026-11-21 10:00:00.123456Z", "2026-11-21 10:00:00.500000Z", None, None]


def test_the_same_documents_give_the_same_bytes(tmp_path: Path, lines: list[bytes]) -> None:
    assert written(tmp_path, lines).read_bytes() == written(tmp_path, lines, "b.parquet").read_bytes()


def test_a_row_group_holds_so_many_bytes_of_documents_and_no_more(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 50_000)
    metadata = pq.read_metadata(written(tmp_path, lines))
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(sizes) == len(lines)
    longest = max(map(len, lines))
    begun = 0
    for size in sizes:
        assert sum(map(len, lines[begun : begun + size])) < 50_000 + longest
        begun += size


def test_what_is_damaged_is_told_from_what_is_not_ours(tmp_path: Path, lines: list[bytes]) -> None:
    whole = written(tmp_path, lines).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for content in (bytes(flipped), whole[: len(whole) // 2], whole[:-3], b"PAR1"):
        with pytest.raises(NotWhole, match="its Parquet is damaged"):
            list(read(io.BytesIO(content)))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with (tmp_path / "other.parquet").open("rb") as file, pytest.raises(OtherColumns):
        list(read(file))


def test_duckdb_counts_and_sums_the_same_in_every_format(tmp_path: Path, lines: list[bytes]) -> None:
    plain = b"\n".join(lines) + b"\n"
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "a.ndjson.zst").write_bytes(zstandard.compress(plain))
    (tmp_path / "a.ndjson").write_bytes(plain)
    write(lines, tmp_path / "a.parquet", compression="zstd")
    of_json = """
        SELECT kubernetes->>'namespace_name' AS namespace, count(*), sum(ms::DOUBLE), sum(status::BIGINT),
            count(message), count(DISTINCT _id), max("@timestamp"),
            count(*) FILTER (kubernetes->'labels'->>'app.kubernetes.io/name' = 'cart-1')
        FROM read_json('{}', format = 'newline_delimited', columns = {{
            _id: 'VARCHAR', "@timestamp": 'VARCHAR', kubernetes: 'JSON', message: 'VARCHAR', ms: 'DOUBLE',
            status: 'BIGINT'
        }}) GROUP BY ALL ORDER BY ALL"""
    of_parquet = """
        SELECT namespace_name AS namespace, count(*), sum((fields->>'ms')::DOUBLE), sum((fields->>'status')::BIGINT),
            count(message), count(DISTINCT id), max(time_text),
            count(*) FILTER (labels['app.kubernetes.io/name'] = 'cart-1')
        FROM '{}' GROUP BY ALL ORDER BY ALL"""
    with duckdb.connect() as db:
        answers = [
            db.sql((of_parquet if name.endswith("parquet") else of_json).format(tmp_path / name)).fetchall()
            for name in ("a.ndjson", "a.ndjson.gz", "a.ndjson.zst", "a.parquet")
        ]
        in_second = db.sql(
            f"SELECT count(*) FROM '{tmp_path}/a.parquet' WHERE time < '2026-11-21T10:00:01Z'"
        ).fetchall()
    decoded = [json.loads(line) for line in lines]
    assert sum(row[1] for row in answers[0]) == len(lines)
    assert sum(row[2] for row in answers[0]) == sum(d.get("ms", 0) for d in decoded)
    assert answers[1:] == answers[:1] * 3
    assert in_second == [(sum(d["@timestamp"].startswith("2026-11-21T10:00:00") for d in decoded),)]


def test_duckdb_answers_the_questions_in_the_docs(tmp_path: Path) -> None:
    lines = [document(n, level="error" if n % 3 else "info", ms=n) for n in range(60)]
    write(lines, tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    block = next(
        part for part in DOCS.read_text().split("```")[1::2] if part.startswith("sql\n") and "read_json" in part
    )
    asked = re.sub(r"s3://my-archive/logs/[^']*/\*\*", str(tmp_path), block.removeprefix("sql\n"))
    of_table, of_json, _ = asked.split(";")
    with duckdb.connect() as db:
        assert db.sql(of_table).fetchall() == [("bank", 40, 30.0)]
        assert db.sql(of_json).fetchall() == [("bank", 60)]
