"""Where the demo's documents go, and how they are read back: files, or real servers where the environment names them.

ELASTICSEARCH_URL (with ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, and
ELASTICSEARCH_CA_FILE); S3_BUCKET (with S3_ENDPOINT, AWS_REGION and the SDK's own variables).
"""

import gzip
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson

from benchmarks.world.check import ndjson_documents, split_documents

Document = tuple[bytes | None, bytes]
PAGE = 5000


class Destination(Protocol):
    @property
    def name(self) -> str:
        """Of the output."""

    @property
    def place(self) -> str:
        """For a person who wants to look."""

    def output(self) -> dict[str, Any] | None:
        """What replaces the output of config/demo.yaml, if anything."""

    def documents(self) -> AsyncIterator[Document]: ...


@dataclass(frozen=True, slots=True)
class Files:
    """The embedded default of config/demo.yaml."""

    name: str
    folder: Path

    @property
    def place(self) -> str:
        return f"{self.folder}/**/*.ndjson"

    def output(self) -> None:
        return None

    async def documents(self) -> AsyncIterator[Document]:
        for path in sorted(self.folder.rglob("*.ndjson")):
            for document in ndjson_documents(path):
                yield document


@dataclass(frozen=True, slots=True)
class Elasticsearch:
    """A data stream of this run's own on an Elasticsearch or OpenSearch."""

    name: str
    url: str
    run: str

    @property
    def place(self) -> str:
        return f"{self.url}/{self._index}/_search"

    @property
    def _index(self) -> str:
        return f"logs-shipper_demo-{self.run}"

    def output(self) -> dict[str, Any]:
        return {
            "type": "elasticsearch",
            "name": self.name,
            "match": "kube.*",
            "hosts": ["${ELASTICSEARCH_URL}"],
            "index": self._index,
            "auth": {key: f"${{ELASTICSEARCH_{key.upper()}:-}}" for key in ("api_key", "username", "password")},
            "tls": {"ca_file": "${ELASTICSEARCH_CA_FILE:-}"},
        }

    async def documents(self) -> AsyncIterator[Document]:
        async with aiohttp.ClientSession(self.url, headers=self._headers(), connector=self._connector()) as session:
            await self._ask(session, f"/{self._index}/_refresh")
            page = await self._ask(session, f"/{self._index}/_search?scroll=1m", {"size": PAGE, "sort": ["_doc"]})
            while hits := page["hits"]["hits"]:
                for hit in hits:
                    yield hit["_id"].encode(), orjson.dumps(hit["_source"])
                page = await self._ask(session, "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})

    async def _ask(
        self, session: aiohttp.ClientSession, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        async with session.post(path, json=body) as answer:
            answer.raise_for_status()
            decoded: dict[str, Any] = orjson.loads(await answer.read())
            return decoded

    def _headers(self) -> dict[str, str]:
        if key := os.environ.get("ELASTICSEARCH_API_KEY"):
            return {"Authorization": f"ApiKey {key}"}
        if user := os.environ.get("ELASTICSEARCH_USERNAME"):
            return {"Authorization": aiohttp.BasicAuth(user, os.environ["ELASTICSEARCH_PASSWORD"]).encode()}
        return {}

    def _connector(self) -> aiohttp.TCPConnector:
        ca_file = os.environ.get("ELASTICSEARCH_CA_FILE")
        return aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca_file) if ca_file else True)


@dataclass(frozen=True, slots=True)
class S3:
    """Objects under a prefix of this run's own."""

    name: str
    bucket: str
    endpoint: str | None
    run: str

    @property
    def place(self) -> str:
        return f"s3://{self.bucket}/{self._prefix}"

    @property
    def _prefix(self) -> str:
        return f"shipper-demo/{self.run}/"

    def output(self) -> dict[str, Any]:
        return {
            "type": "s3",
            "name": self.name,
            "match": "archive.*",
            "bucket": self.bucket,
            "endpoint": "${S3_ENDPOINT:-}",
            "region": "${AWS_REGION:-}",
            "key": self._prefix + "{namespace}/{node}-{id}.ndjson.gz",
            "manifest": "off",
        }

    async def documents(self) -> AsyncIterator[Document]:
        from aiobotocore.session import AioSession

        region = os.environ.get("AWS_REGION") or None
        async with AioSession().create_client("s3", endpoint_url=self.endpoint, region_name=region) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._prefix)
            async for page in pages:
                for entry in page.get("Contents", ()):
                    answer = await client.get_object(Bucket=self.bucket, Key=entry["Key"])
                    for document in split_documents(gzip.decompress(await answer["Body"].read())):
                        yield document


def choose_destinations(folder: Path, *, run: str) -> tuple[Destination, Destination]:
    """For all documents, and for the archive."""
    documents: Destination = Files("documents", folder / "documents")
    archive: Destination = Files("archive", folder / "archive")
    if url := os.environ.get("ELASTICSEARCH_URL"):
        documents = Elasticsearch("documents", url.rstrip("/"), run)
    if bucket := os.environ.get("S3_BUCKET"):
        archive = S3("archive", bucket, os.environ.get("S3_ENDPOINT") or None, run)
    return documents, archive
