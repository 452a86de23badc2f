"""What an answer to a bulk request says of each record. Pure: without a socket.

HTTP 200 says nothing: each item has a status of its own. What a record itself is guilty of is rejected; what a
person must mend at the destination (a right, a write block, a missing index) is retried for as long as it
takes, so that nothing is lost meanwhile. The answers were recorded from Elasticsearch 9.5.3 and OpenSearch
2.19.5.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from shipper.delivery import Batch, Delivery, Rejection
from shipper.errors import Disconnected
from shipper.outputs.elasticsearch.retry_after import parse_retry_after

SPLIT_REFUSALS = 4  # a batch refused so often in a row may be too large for the server's indexing pressure limit
SPLIT_ABOVE_BYTES = 512 * 1024  # smaller ones are refused because the server is busy: more requests would not help it
MAX_REENCODES = 3  # by then the encoder is at fault, and the flow must go on
# Keys of Batch.memo, kept by `remember`:
REFUSALS = "refusals"  # how often in a row the whole batch was refused because the server is busy
REENCODES = "reencodes"  # how often documents of this batch were asked for again
WORDS_LIMIT = 1000

# What an answer says of all of a batch's items, from the kind that needs a person most.
_SENTENCES = {
    "forbidden": "these credentials may not write there; nothing is lost, grant create_doc and auto_configure",
    "disk_full": "the server's disks are full (flood stage); nothing is lost, make room there",
    "read_only": "the index is read-only there; nothing is lost, make it writable or point to another one",
    "blocked": "writing is blocked there; nothing is lost, remove the block",
    "no_index": "the index does not exist and may not be created; nothing is lost, create or allow it",
    "misconfigured": "the destination is not set up for these records; nothing is lost, mend what it says",
    "unavailable": "the server could not take some records",
    "throttled": "the server is busy",
    "duplicate_keys": "documents with the same key twice are encoded again",
}
# These types stand for faults of records as well, so the words must tell: from their beginning, since a
# record's own words may follow.
_MISCONFIGURED = {
    "index_closed_exception": re.compile(""),
    "invalid_index_name_exception": re.compile(""),
    "media_type_header_exception": re.compile(""),
    "illegal_argument_exception": re.compile(
        r"no write index is defined|pipeline with id \[[^]]*\] does not exist|explicit index in bulk is not allowed"
    ),
    "validation_exception": re.compile(
        r"Validation Failed: 1: this action would add \[\d+\] .*shards, but this cluster currently has"
    ),
}
# Numbers of blocks, as in `[FORBIDDEN/12/index read-only / allow delete (api)]`; the first that is there counts.
_BLOCKS = {12: "disk_full", 5: "read_only", 6: "read_only"}
_OPERATION_TOO_LARGE = "exceeds the maximum allowed limit"  # indexing_pressure.memory.max_operation_size: for ever
_DUPLICATE_FIELD = "Duplicate field '"  # both servers, from the JSON parser's own words


class Cause(msgspec.Struct):
    type: str | None = None
    reason: str | None = None
    caused_by: "Cause | None" = None


class Outcome(msgspec.Struct):
    status: int
    error: Cause | str | None = None
    failure_store: str = ""


class Item(msgspec.Struct):
    create: Outcome


class BulkAnswer(msgspec.Struct):
    items: list[Item]


class ErrorAnswer(msgspec.Struct):
    error: Cause | str


_decode_bulk = msgspec.json.Decoder(BulkAnswer).decode
_decode_error = msgspec.json.Decoder(ErrorAnswer).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def judge_response(status: int, headers: Mapping[str, str], body: bytes, batch: Batch) -> Delivery:
    """The fate of every record; Disconnected when the answer does not tell."""
    if status == 200:
        return _judge_items(body, batch)
    return _judge_whole(status, parse_retry_after(headers), body, batch)


def remember(batch: Batch, delivery: Delivery) -> None:
    """Notes for the judgement of the next attempt."""
    is_refused = delivery.reason == "throttled" and len(delivery.retry) == batch.records
    batch.memo[REFUSALS] = batch.memo.get(REFUSALS, 0) + 1 if is_refused else 0
    if delivery.reencode:
        batch.memo[REENCODES] = batch.memo.get(REENCODES, 0) + 1


_HEAD, _CREATED, _TAIL = b'{"errors":false,"items":[', b'{"create":{"status":201}},', b'{"create":{"status":201}}]}'


def _judge_items(body: bytes, batch: Batch) -> Delivery:
    if body == _HEAD + _CREATED * (batch.records - 1) + _TAIL:
        return Delivery()  # the usual answer, for the price of a comparison
    # The same with some 200s, or with failure stores, without an object per record
    if body.startswith(b'{"errors":false') and body.endswith(b"}]}") and body.count(b'"status":20') == batch.records:
        return Delivery(failure_store=body.count(b'"failure_store":"used"'))
    try:
        items = _decode_bulk(body).items
    except _UNREADABLE as exc:
        raise Disconnected(
            f"the answer is cut short or none of Elasticsearch's: {_gist(body)}", reason="unreadable"
        ) from exc
    if len(items) != batch.records:
        raise Disconnected(f"the answer has {len(items)} items for {batch.records} records", reason="incomplete")
    return _Fates(batch).judge([item.create for item in items])


class _Fates:
    """Collects the fates of one batch's records."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.documents: list[bytes] | None = None
        self.retry: list[int] = []
        self.reencode: list[int] = []
        self.rejected: list[Rejection] = []
        self.reasons: dict[str, str] = {}  # kind of retry -> the server's words, the first time
        self.duplicates = 0
        self.failure_store = 0

    def judge(self, outcomes: list[Outcome]) -> Delivery:
        for index, outcome in enumerate(outcomes):
            if 200 <= outcome.status < 300:
                self.failure_store += outcome.failure_store == "used"
            else:
                self._judge_failure(index, outcome)
        reason = next((kind for kind in _SENTENCES if kind in self.reasons), "")
        detail = f"{_SENTENCES[reason]}: {self.reasons[reason]}" if reason else ""
        if set(self.reasons) == {"throttled"} and len(self.retry) == self.batch.records:
            too_large = _OPERATION_TOO_LARGE in self.reasons["throttled"]
            if too_large or _is_refused_too_often(self.batch):
                return Delivery(split=True, reason="too_large", detail=detail)
        return Delivery(
            retry=tuple(self.retry),
            rejected=tuple(self.rejected),
            duplicates=self.duplicates,
            failure_store=self.failure_store,
            reencode=tuple(self.reencode),
            reason=reason,
            detail=detail,
        )

    def _judge_failure(self, index: int, outcome: Outcome) -> None:
        kind, words = describe(outcome.error)
        if outcome.status == 409 and kind in ("", "version_conflict_engine_exception"):
            self.duplicates += 1  # our own earlier attempt: ids are never used twice
        elif reason := _retry_reason(outcome.status, kind, words):
            self._again(index, reason, words)
        elif _DUPLICATE_FIELD in words and self._can_be_repaired(index):
            self._again(index, "duplicate_keys", words)
            self.reencode.append(index)
        else:
            self.rejected.append(Rejection(index, kind or f"http_{outcome.status}", words))

    def _again(self, index: int, reason: str, words: str) -> None:
        self.retry.append(index)
        self.reasons.setdefault(reason, words)

    def _can_be_repaired(self, index: int) -> bool:
        """Asks the document, not a note from the last attempt: a batch is cut and joined between attempts."""
        if self.documents is None:
            self.documents = self.batch.documents()
        asked = self.batch.memo.get(REENCODES, 0)
        return asked < MAX_REENCODES and has_equal_keys(self.documents[index].rstrip(b"\n").rpartition(b"\n")[2])


def _retry_reason(status: int, kind: str, words: str) -> str | None:
    """None: the record itself is at fault."""
    if kind == "cluster_block_exception":  # 403, and 429 for a full disk
        return next((reason for number, reason in _BLOCKS.items() if f"/{number}/" in words), "blocked")
    if status in (401, 403):
        return "forbidden"
    if status == 429:
        return "throttled"
    if not 400 <= status < 500 or status == 408:
        return "unavailable"
    if kind == "index_not_found_exception":
        return "no_index"
    mendable = _MISCONFIGURED.get(kind)
    return "misconfigured" if mendable is not None and mendable.match(words) else None


def _judge_whole(status: int, delay_s: float | None, body: bytes, batch: Batch) -> Delivery:
    try:
        kind, words = describe(_decode_error(body).error)
    except _UNREADABLE:
        kind, words = "", _gist(body)
    everything = tuple(range(batch.records))
    if status == 413 or (status == 400 and kind and _retry_reason(status, kind, words) is None):
        # Too large, or one record that makes the request malformed: halved until it stands alone.
        return Delivery(
            split=True, reason=kind or "too_large", detail=words or "the request is too large for the server"
        )
    if status == 429:
        if _is_refused_too_often(batch):
            return Delivery(
                split=True, reason="too_large", detail=f"{_SENTENCES['throttled']}: {words}", delay_s=delay_s
            )
        detail = f"{_SENTENCES['throttled']}: {words}"
        return Delivery(retry=everything, reason="throttled", detail=detail, delay_s=delay_s)
    if status == 503:
        return Delivery(retry=everything, reason="unavailable", detail=f"status 503: {words}", delay_s=delay_s)
    if status == 401:
        raise Disconnected(f"the server does not accept these credentials: {words}", reason="auth", ambiguous=False)
    if status == 403:
        raise Disconnected(f"{_SENTENCES['forbidden']}: {words}", reason="forbidden", ambiguous=False)
    raise Disconnected(
        f"status {status}, nothing was taken: {words}" if 400 <= status < 500 else f"status {status}: {words}",
        reason=f"http_{status}",
        ambiguous=not 400 <= status < 500,  # a gateway that gave up may have passed the request on
        delay_s=delay_s,
    )


def _is_refused_too_often(batch: Batch) -> bool:
    refusals: int = batch.memo.get(REFUSALS, 0)
    return batch.records > 1 and refusals >= SPLIT_REFUSALS and len(batch.body) > SPLIT_ABOVE_BYTES


def describe(error: Cause | str | None) -> tuple[str, str]:
    """Type and joined words of an error. A cause whose words were said by its effect is not said again."""
    if not isinstance(error, Cause):
        return "", (error or "")[:WORDS_LIMIT]
    kind, words = error.type or "", error.reason or ""
    cause = error.caused_by
    while cause is not None and len(words) < WORDS_LIMIT:
        if cause.reason and cause.reason not in words:
            words += f"; caused by {cause.type or 'unknown'}: {cause.reason}"
        cause = cause.caused_by
    return kind[:100], words[:WORDS_LIMIT]


def _gist(body: bytes) -> str:
    """The first words of what is no answer of Elasticsearch's: a proxy's page, as a rule."""
    text = body[:2000].decode("utf-8", "replace")
    title = re.search(r"<title>([^<]*)</title>", text, re.IGNORECASE)
    return " ".join((title[1] if title else text).split())[:200] or "an empty answer"


def has_equal_keys(document: bytes) -> bool:
    """Whether any object in it has the same key twice, after unescaping."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)

    try:
        json.loads(document, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return False
    return found
