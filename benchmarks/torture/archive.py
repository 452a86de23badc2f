"""The S3 server (moto) behind the proxy, and a bucket on it, read back with the plain SDK."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer


@contextmanager
def run_s3() -> Iterator[str]:
    """Its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@dataclass
class Archive:
    """One bucket; it is made."""

    endpoint: str
    bucket: str
    user: str = "key"
    password: str = "secret"  # moto takes any
    _client: Any = field(init=False)

    def __post_init__(self) -> None:
        self._client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.user,
            aws_secret_access_key=self.password,
            config=Config(s3={"addressing_style": "path"}),
        )
        self._client.create_bucket(Bucket=self.bucket)

    def objects(self) -> Iterator[bytes]:
        """In the order of their keys, without the manifest."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for entry in page.get("Contents", ()):
                if entry["Key"].startswith("manifest/"):
                    continue
                yield self._client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"].read()
