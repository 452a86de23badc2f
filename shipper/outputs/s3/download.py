"""Reads what is archived, for commands: it takes rights that the daemon does without."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from shipper.outputs.s3.api import S3Api
from shipper.outputs.s3.bucket import Head, Listed
from shipper.outputs.s3.checksum import FIELDS
from shipper.outputs.s3.trouble import S3Error, Trouble

RIGHTS = ("s3:ListBucket", "s3:GetObject")
_PIECE_BYTES = 2**18
_IS_COLD = "InvalidObjectState"  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html


class DownloadApi(S3Api):
    """The `Downloads` of a real server."""

    async def page(self, prefix: str, *, after: str = "", at_most: int = 1000) -> list[Listed]:
        async with self._reading() as client:
            answer = await client.list_objects_v2(
                Bucket=self._config.bucket, Prefix=prefix, StartAfter=after, MaxKeys=at_most
            )
        return [
            Listed(one["Key"], int(one["Size"]), one["LastModified"].timestamp(), str(one.get("ETag", "")))
            for one in answer.get("Contents", ())
        ]

    async def read(self, listed: Listed, start: int) -> AsyncGenerator[bytes]:
        condition = {"IfMatch": listed.version} if listed.version else {}
        part = {"Range": f"bytes={start}-"} if start else {}
        async with self._reading() as client:
            answer = await client.get_object(**self._object(listed.key), **condition, **part)
            body = answer["Body"]
            async with body:
                async for piece in body.iter_chunks(_PIECE_BYTES):
                    yield piece

    async def head(self, key: str) -> Head | None:
        try:
            async with self._reading() as client:
                answer = await client.head_object(**self._object(key), ChecksumMode="ENABLED")
        except S3Error as exc:
            if exc.status == 404:
                return None
            raise
        if "ContentLength" not in answer:
            raise S3Error(Trouble("server", "the answer about an object was not that of an S3 server"))
        checksums = {kind: answer[field] for kind, field in FIELDS.items() if answer.get(field)}
        return Head(answer["ContentLength"], checksums, answer.get("StorageClass") or "STANDARD")

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        try:
            async with self._requests() as client:
                yield client
        except S3Error as exc:
            raise S3Error(self._explain(exc), code=exc.code, status=exc.status, delay_s=exc.delay_s) from exc

    def _explain(self, exc: S3Error) -> Trouble:
        bucket = self._config.bucket
        if exc.code == _IS_COLD:
            return Trouble("cold", "its storage class must be restored before it can be read", "restore it first")
        if exc.code == "NoSuchKey":
            return Trouble("gone", "it was deleted meanwhile")
        if exc.status == 412:
            return Trouble("gone", "it was replaced meanwhile")
        if exc.trouble.reason == "forbidden":
            return Trouble("forbidden", f"no permission to read the bucket {bucket}", f"allow {' and '.join(RIGHTS)}")
        return exc.trouble
