"""Reads an archive back with the plain SDK, and knows nothing of how it was written."""

import functools
import gzip
import io
from typing import Any

import boto3
import orjson
import pyarrow.parquet as pq
import zstandard
from botocore.config import Config


class Archive:
    """One bucket, made when it is not there."""

    def __init__(self, endpoint: str, bucket: str, user: str = "key", password: str = "secret") -> None:
        self.endpoint, self.bucket, self.user, self.password = endpoint, bucket, user, password
        self.client = _client(endpoint, user, password)

    def create_bucket(self, *, with_lock: bool = False) -> None:
        self.client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=with_lock)

    def keys(self) -> list[str]:
        """Of archived objects."""
        return [key for key in self.all_keys() if not key.startswith("manifest/")]

    def all_keys(self) -> list[str]:
        """Those of the manifest as well."""
        answer = self.client.list_objects_v2(Bucket=self.bucket)
        return [entry["Key"] for entry in answer.get("Contents", ())]

    def head(self, key: str) -> Any:
        return self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def documents(self, prefix: str = "") -> list[bytes]:
        """Of all objects, in the order of their keys."""
        found: list[bytes] = []
        for key in self.keys():
            if key.startswith(prefix):
                found += unpack(key, self.read(key)).splitlines(keepends=True)
        return found

    def unfinished_uploads(self) -> list[str]:
        answer = self.client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["UploadId"] for upload in answer.get("Uploads", ())]


@functools.cache  # making one takes a quarter of a second
def _client(endpoint: str, user: str, password: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=user,
        aws_secret_access_key=password,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def unpack(key: str, content: bytes) -> bytes:
    if key.endswith(".gz"):
        return gzip.decompress(content)
    if key.endswith(".zst"):
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True) as reader:
            return reader.read()
    if key.endswith(".parquet"):
        return b"".join(orjson.dumps(_document(row)) + b"\n" for row in pq.read_table(io.BytesIO(content)).to_pylist())
    return content


def _document(row: dict[str, Any]) -> dict[str, Any]:
    """By what docs/archive.md says of the columns."""
    row = {name: value for name, value in row.items() if value is not None and name != "time"}
    document: dict[str, Any] = {
        member: row.pop(name) for member, name in (("_id", "id"), ("@timestamp", "time_text")) if name in row
    }
    if "file_path" in row:
        document["file"] = {"path": row.pop("file_path"), "offset": row.pop("file_offset")}
    others, fields = orjson.loads(row.pop("kubernetes", "{}")), orjson.loads(row.pop("fields", "{}"))
    document |= {name: row.pop(name) for name in ("stream", "message", "truncated", "parse_error") if name in row}
    kubernetes = {name: dict(value) if isinstance(value, list) else value for name, value in row.items()} | others
    document |= fields
    return document | ({"kubernetes": kubernetes} if kubernetes else {})
