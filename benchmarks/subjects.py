"""What is measured: the yardstick, the shipper in several configurations, and peers that are found on PATH.

Each is a command that ships one tree to one sink. Ours end when all is delivered; a peer goes on for ever, and is
stopped when all has arrived.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.world.account import Account

Mode = Literal["plain", "gzip"]
Variant = Literal["usual", "twin", "field", "archive"]

ARCHIVED = ("cart", "checkout", "search")  # of ten services: a third of the records

_CONFIG = """\
service:
  state_dir: {state}
  http: off
inputs:
  - type: tail
    path: ["{pods}/*/*/*.log"]
filters:
  - type: kubernetes
    node_name: node-1
    api: {api}
  - type: json
{filters}
outputs:
  - type: elasticsearch
    hosts: ["http://127.0.0.1:{port}"]
    index: logs-bench-default
    compression: {compression}
    ids: offset
{outputs}
"""

# Every record is asked for two of its fields; one in eight is an error of one of the applications, and is tagged.
_FIELD_RULE = """\
  - type: tag
    rules:
      - add: errors
        when: {any: [{field: res.statusCode, equals: 500}, {field: level, in: [warning, error]}]}
"""

_ARCHIVE_RULE = f"""\
  - type: tag
    rules:
      - add: archive
        when: {{label: app, in: [{", ".join(ARCHIVED)}]}}
"""

_ARCHIVE = """\
  - type: s3
    match: archive
    bucket: bench
    region: us-east-1
    endpoint: http://127.0.0.1:{bucket_port}
    auth: {{access_key: bench, secret_key: bench-secret}}
    key: "logs/{{namespace}}/{{id}}.ndjson.gz"
"""


def is_archived(labels: Mapping[str, str]) -> bool:
    return labels["app"] in ARCHIVED


@dataclass(frozen=True, slots=True)
class Job:
    """One run: ship `pods` to the sink on `port`. `folder` is empty, and the run's own."""

    pods: Path
    port: int
    mode: Mode
    folder: Path
    bucket_port: int = 0  # of an S3 server


class Subject(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def mode(self) -> Mode: ...

    @property
    def ends(self) -> bool:
        """By itself, when all is delivered."""

    @property
    def has_archive(self) -> bool:
        """It needs an S3 server beside the sink."""

    @property
    def newlines(self) -> int:
        """Of a request's body, for each document."""

    @property
    def is_packed(self) -> bool:
        """Its requests come compressed."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Beside ours."""

    def command(self, job: Job) -> list[str]:
        """Writes what the run needs into the job's folder, and returns what to start."""

    def documents(self, account: Account) -> int:
        """How many must arrive."""


class Yardstick:
    ends, has_archive, newlines = True, False, 2
    environment: Mapping[str, str] = {}

    def __init__(self, mode: Mode = "plain") -> None:
        self.name = f"yardstick {mode}"
        self.mode = mode
        self.is_packed = mode == "gzip"

    def command(self, job: Job) -> list[str]:
        compression = "gz" if job.mode == "gzip" else "none"
        return [sys.executable, "-m", "benchmarks.reference", str(job.pods), str(job.port), compression]

    def documents(self, account: Account) -> int:
        return account.records


class Shipper:
    """With ids, fsynced checkpoints and all else that the daemon does. `api`: URL of a Kubernetes API, or `off`."""

    newlines = 2

    def __init__(self, api: str, *, mode: Mode = "plain", variant: Variant = "usual", once: bool = True) -> None:
        self.name = mode if variant == "usual" else variant
        self.mode, self.ends = mode, once
        self.is_packed = mode == "gzip"
        self.has_archive = variant == "archive"
        self.environment = {"SHIPPER_NATIVE": "0"} if variant == "twin" else {}
        self._api, self._variant = api, variant

    def command(self, job: Job) -> list[str]:
        config = job.folder / "config.yaml"
        config.write_text(self._config(job), encoding="utf-8")
        return [sys.executable, "-m", "shipper", "run", str(config), *(["--once"] if self.ends else [])]

    def _config(self, job: Job) -> str:
        return _CONFIG.format(
            state=job.folder / "state",
            pods=job.pods,
            port=job.port,
            api="off" if self._api == "off" else f"{{url: {self._api}}}",
            compression="gzip" if job.mode == "gzip" else "none",
            filters={"field": _FIELD_RULE, "archive": _ARCHIVE_RULE}.get(self._variant, ""),
            outputs=_ARCHIVE.format(bucket_port=job.bucket_port) if self.has_archive else "",
        )

    def documents(self, account: Account) -> int:
        return account.records


def environment_of(subject: Subject) -> dict[str, str]:
    return {**os.environ, **subject.environment}
