"""Batches into bulk requests, answers into fates."""

import asyncio
import logging
import time
from typing import Any, Literal
from urllib.parse import quote

import orjson
from isal import isal_zlib

from shipper.body import view_of
from shipper.delivery import Batch, Delivery
from shipper.errors import Disconnected
from shipper.log import fields
from shipper.outputs.base import Durable, Finding, Host
from shipper.outputs.elasticsearch.client import Answer, ElasticsearchClient
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.elasticsearch.judge import judge_response, remember
from shipper.outputs.elasticsearch.node import Body
from shipper.outputs.elasticsearch.target import make_template, split_target
from shipper.outputs.elasticsearch.verify import Verifier

log = logging.getLogger(__name__)

# Keeps the items' positions; without `items.*.status` the good ones would vanish from the answer.
_FILTER_PATH = "errors,items.*.status,items.*.error,items.*.failure_store"
_GZIP_LEVEL = 1
_GZIP_FORMAT = 31  # zlib's wbits: 32 KiB window, gzip header and trailer
_ASK_FIRST = "ask_first"  # key of Batch.memo: the last attempt was cut off while it was being sent


class ElasticsearchOutput:
    """Delivers by `_bulk`, always with op `create`.

    `create` is what a data stream takes, what the right `create_doc` allows, and what makes a repeated document
    a 409, which is delivered (https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk).
    Without ids it appends as `index` does: the server makes ids of its own. `must_know`: what may be there already is
    not sent before that is known.
    """

    kind = "elasticsearch"
    target_style: Literal["index"] = "index"
    lines_per_record = 2
    durable: Durable | None = None

    def __init__(self, config: ElasticsearchConfig, *, must_know: bool = False) -> None:
        self.name = config.name
        self.template = make_template(config.index, config.routing)
        self.concurrency = config.concurrency
        self.max_batch_bytes = config.batch.max_bytes
        self.max_batch_age_s = config.batch.max_age
        self._config = config
        self._must_know = must_know
        self._client: ElasticsearchClient | None = None
        self._verifier: Verifier | None = None
        self._requests: Any = None  # these two are the counters, once there is a host
        self._ambiguous: Any = None
        self._has_accepted = False
        self._last_answer: float | None = None  # time.time()

    def __repr__(self) -> str:
        return f"<ElasticsearchOutput {self.name} {' '.join(self._config.urls)}>"

    @property
    def _has_one_target(self) -> bool:
        return not self._config.index.placeholders

    def frame(self, target: str) -> tuple[bytes | None, bytes]:
        """A target that is the same for all records stands in the request's path, else in each action line."""
        index, routing = split_target(target)
        members = [] if self._has_one_target else [b'"_index":' + orjson.dumps(index)]
        if routing is not None:
            members.append(b'"routing":' + orjson.dumps(routing))
        if self._config.ids == "none":
            return None, b'{"create":{' + b",".join(members) + b"}}\n{"
        return b'{"create":{' + b",".join([*members, b'"_id":"']), b'"}}\n{'

    async def start(self, host: Host) -> None:
        self._client = ElasticsearchClient(self._config)
        self._verifier = Verifier(
            self._client, output=self.name, default_target=self.template.text, must_know=self._must_know
        )
        self._requests = host.metrics.output_requests
        self._ambiguous = host.metrics.output_ambiguous_records

    async def send(self, batch: Batch) -> Delivery:
        """Raises Disconnected: timeout, reset, refused, dns, tls, auth, forbidden, unreadable, incomplete, unverified,
        http_502.

        After `auth`, a `delay_s` of 0 says that the secret's file holds something new.
        """
        try:
            if batch.uncertain_since is not None and (delivery := await self._verify(batch)):
                return delivery
            delivery = await self._send(batch)
        except Disconnected as exc:
            if exc.ambiguous:
                _doubt(batch)
            if exc.reason == "auth" and self._client is not None and await self._client.reload_credentials():
                exc.delay_s = 0.0
            raise
        if delivery.reason == "unavailable":
            _doubt(batch)  # a proxy may have passed it on, and a shard may have written it and fallen silent
        return delivery

    async def _verify(self, batch: Batch) -> Delivery | None:
        """What is known of a batch that may be there already; None: all of it is to be sent."""
        assert self._verifier is not None, "start comes first"
        if self._config.ids == "none":
            return None  # there is nothing to ask by
        found = await self._verifier.find(batch)
        batch.uncertain_since = None
        self._count_ambiguous("unverified" if found is None else "missing", batch.records - len(found or ()))
        if not found:
            return None
        self._count_ambiguous("found", len(found))
        missing = tuple(i for i in range(batch.records) if i not in found)
        detail = f"of an unanswered request, {len(found)} records had arrived; the other {len(missing)} are sent again"
        return Delivery(
            retry=missing, duplicates=len(found), reason="verified" if missing else "", detail=detail, delay_s=0.0
        )

    async def _send(self, batch: Batch) -> Delivery:
        try:
            answer = await self._post(batch)
        except Disconnected as exc:
            self._count("timeout" if exc.reason == "timeout" else "error")
            batch.memo[_ASK_FIRST] = exc.reason == "reset"
            raise
        self._count(str(answer.status))
        self._last_answer = time.time()
        batch.memo[_ASK_FIRST] = False
        delivery = judge_response(answer.status, answer.headers, answer.body, batch)
        self._refuse_to_split_everything(answer, delivery)
        self._has_accepted = self._has_accepted or answer.status == 200
        remember(batch, delivery)
        return delivery

    async def _post(self, batch: Batch) -> Answer:
        assert self._client is not None, "start comes first"
        headers: dict[str, str] = {}
        content: bytes | memoryview = view_of(batch.body)
        if self._config.compression == "gzip":
            content = await asyncio.to_thread(isal_zlib.compress, content, _GZIP_LEVEL, _GZIP_FORMAT)
            headers["content-encoding"] = "gzip"
        if batch.memo.get(_ASK_FIRST):
            # A server that refuses a request by its size (413) closes the connection while the body is still being
            # sent, and the refusal is lost in the reset. Waiting for its word before the body lets it be read.
            headers["expect"] = "100-continue"
        params = {"filter_path": _FILTER_PATH}
        if self._config.pipeline is not None:
            params["pipeline"] = self._config.pipeline
        path = f"/{quote(self.template.text, safe='')}/_bulk" if self._has_one_target else "/_bulk"
        return await self._client.request(
            "POST", path, params=params, headers=headers, body=Body(content), content_type="application/x-ndjson"
        )

    def _refuse_to_split_everything(self, answer: Answer, delivery: Delivery) -> None:
        """A server that calls every request malformed is not told the bad record by halving: all would be rejected."""
        if answer.status == 400 and delivery.split and not self._has_accepted:
            raise Disconnected(
                f"status 400, and no request was taken so far: {delivery.detail}", reason="http_400", ambiguous=False
            )

    def _count(self, status: str) -> None:
        self._requests.labels(self.name, status).inc()

    def _count_ambiguous(self, outcome: str, records: int) -> None:
        if records:
            self._ambiguous.labels(self.name, outcome).inc(records)

    async def drain(self) -> None:
        """Nothing is kept back."""

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            log.debug("closed the connections", extra=fields(output=self.name))

    async def check(self) -> list[Finding]:
        from shipper.outputs.elasticsearch.check import check  # what a daemon never needs

        return await check(self._config)

    def status(self) -> dict[str, Any]:
        return {
            "hosts": list(self._config.urls),
            "index": self.template.text,
            "last_answer": self._last_answer,
            "repeats": (self._verifier.sentence if self._verifier else "") or None,
        }


def _doubt(batch: Batch) -> None:
    """By the age of the batch, since the clock may have been set meanwhile."""
    first_attempt = time.time() - (time.monotonic() - batch.created)
    batch.uncertain_since = first_attempt if batch.uncertain_since is None else batch.uncertain_since
