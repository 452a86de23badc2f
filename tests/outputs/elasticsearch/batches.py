"""Batches and a host for the tests of this output."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from shipper.body import new_body
from shipper.delivery import Batch
from shipper.metrics import Metrics
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.elasticsearch.output import ElasticsearchOutput
from shipper.template import Template

TIME = "2026-11-21T10:00:00.123456789Z"
SHORT_S = 1.0  # a time-out that is to pass
LONG_S = 100.0  # one that is not
_ids = itertools.count()


class FakeHost:
    """What `start` is offered."""

    state_dir = ""
    node = "node-1"

    def __init__(self) -> None:
        self.metrics = Metrics()

    def rows(self, output: str) -> Mapping[str, bytes]:
        return {}

    def uploaded(self, output: str, generations: Mapping[int, int], records: int) -> None: ...

    def lost(self, output: str, generations: Mapping[int, int], records: int, reason: str) -> None: ...

    def committed(self) -> None: ...


def config(*urls: str, index: str = "logs-app-default", **other: Any) -> ElasticsearchConfig:
    return ElasticsearchConfig(hosts=urls, index=Template.parse(index), **other)


def documents(count: int) -> list[bytes]:
    return [orjson.dumps({"@timestamp": TIME, "message": f"line {number}"}) for number in range(count)]


def batch_of(
    output: ElasticsearchOutput, sources: Iterable[bytes], *, target: str = "logs-app-default", ids: Iterable[str] = ()
) -> Batch:
    """Documents as the encoder writes them; ids are new ones, if none are given."""
    before, after = output.frame(target)
    body = new_body()
    given = iter(ids)
    count = 0
    for source in sources:
        identity = next(given, None) or f"id-{next(_ids)}"
        body += (before + identity.encode() if before is not None else b"") + after + source[1:] + b"\n"
        count += 1
    return Batch(body, [], count, output.lines_per_record)


def subset_of(batch: Batch, indices: Iterable[int]) -> Batch:
    """As the worker makes it, of a batch without pieces."""
    texts, chosen = batch.documents(), tuple(indices)
    return msgspec.structs.replace(batch, body=bytearray(b"".join(texts[i] for i in chosen)), records=len(chosen))


def plain_batch(count: int, source: bytes = b'{"m":1}') -> Batch:
    """For judging, where no output is needed."""
    line = b'{"create":{"_id":"x"}}\n' + source + b"\n"
    return Batch(bytearray(line * count), [], count, 2)
