"""Answers are as Elasticsearch 9.5.3 and OpenSearch 2.19.5 gave them."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shipper.delivery import Delivery
from shipper.errors import Disconnected
from shipper.outputs.elasticsearch.judge import (
    MAX_REENCODES,
    REENCODES,
    SPLIT_REFUSALS,
    has_equal_keys,
    judge_response,
    remember,
)
from tests.outputs.elasticsearch.batches import plain_batch

MAPPING_FAILURE = {
    "type": "document_parsing_exception",
    "reason": "[1:42] failed to parse field [n] of type [long]. Preview of field's value: 'abc'",
    "caused_by": {"type": "illegal_argument_exception", "reason": 'For input string: "abc"'},
}
ELASTICSEARCH_DUPLICATE = {
    "type": "document_parsing_exception",
    "reason": "[1:42] failed to parse: [1:47] Duplicate field 'a'\n at [Source: (byte[])\"{}\"; line: 1, column: 47]",
    "caused_by": {"type": "x_content_parse_exception", "reason": "[1:47] Duplicate field 'a'"},
}
OPENSEARCH_DUPLICATE = {
    "type": "mapper_parsing_exception",
    "reason": "failed to parse",
    "caused_by": {"type": "json_parse_exception", "reason": "Duplicate field 'a'\n at [Source: REDACTED]"},
}
BUSY = {"type": "es_rejected_execution_exception", "reason": "rejected execution of primary operation"}
TOO_LARGE_OPERATION = {
    "type": "es_rejected_execution_exception",
    "reason": "Request contains an operation of size [300300] bytes, which exceeds the maximum allowed limit",
}
WRITE_BLOCK = {"type": "cluster_block_exception", "reason": "index [m1] blocked by: [FORBIDDEN/8/index write (api)];"}
READ_ONLY = {"type": "cluster_block_exception", "reason": "index [m] blocked by: [FORBIDDEN/5/index read-only (api)];"}
FULL_DISK_OF_OPENSEARCH = {
    "type": "cluster_block_exception",
    "reason": "index [m] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];",
}
FULL_DISK = {"type": "cluster_block_exception", "reason": "index [m1] blocked by: [TOO_MANY_REQUESTS/12/disk usage];"}
NO_RIGHT = {
    "type": "security_exception",
    "reason": "action [indices:admin/auto_create] is unauthorized for user [shipper]",
}
CONFLICT = {"type": "version_conflict_engine_exception", "reason": "[i0]: version conflict, document already exists"}


def item(status: int, error: Any = None, **more: Any) -> dict[str, Any]:
    return {"create": {"status": status, **({"error": error} if error is not None else {}), **more}}


def answer(*items: dict[str, Any]) -> bytes:
    return orjson.dumps({"errors": any("error" in i["create"] for i in items), "items": items})


def judge(*items: dict[str, Any], source: bytes = b'{"m":1}') -> Delivery:
    return judge_response(200, {}, answer(*items), plain_batch(len(items), source))


def whole(
    status: int, kind: str = "", reason: str = "", records: int = 3, headers: dict[str, str] | None = None
) -> Delivery:
    body = orjson.dumps({"error": {"type": kind, "reason": reason}, "status": status}) if kind else b""
    return judge_response(status, headers or {}, body, plain_batch(records))


def test_all_stored_is_all_delivered() -> None:
    assert judge(item(201), item(201), item(200)) == Delivery()


def test_the_usual_answer_is_not_decoded() -> None:
    garbage_between = b'{"errors":false,"items":[{"create":{"status":201}},]nonsense[{"create":{"status":201}}]}'
    assert judge_response(200, {}, garbage_between, plain_batch(2)) == Delivery()


def test_a_document_that_is_there_already_is_delivered_and_counted() -> None:
    assert judge(item(201), item(409, CONFLICT)) == Delivery(duplicates=1)


def test_a_conflict_of_another_kind_is_not_taken_for_delivered() -> None:
    delivery = judge(item(409, {"type": "strange_exception", "reason": "no"}))
    assert [r.reason for r in delivery.rejected] == ["strange_exception"]


def test_documents_in_the_failure_store_are_counted() -> None:
    assert judge(item(201, failure_store="used"), item(201)).failure_store == 1
    mixed = judge(item(201, failure_store="used"), item(409, CONFLICT), item(201, failure_store="not_enabled"))
    assert mixed == Delivery(duplicates=1, failure_store=1)


def test_only_the_items_that_may_succeed_later_are_retried() -> None:
    delivery = judge(item(201), item(429, BUSY), item(400, MAPPING_FAILURE), item(503, BUSY), item(201))
    assert delivery.retry == (1, 3)
    assert [r.index for r in delivery.rejected] == [2]
    assert delivery.reason == "unavailable"


def test_a_rejection_carries_type_reason_and_cause() -> None:
    (rejection,) = judge(item(400, MAPPING_FAILURE)).rejected
    assert rejection.reason == "document_parsing_exception"
    assert "Preview of field's value: 'abc'; caused by illegal_argument_exception: For input string" in rejection.detail


def test_a_cause_that_says_the_same_again_is_said_once() -> None:
    (rejection,) = judge(item(400, ELASTICSEARCH_DUPLICATE)).rejected
    assert rejection.detail.count("Duplicate field") == 1


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (403, WRITE_BLOCK, "blocked"),
        (429, FULL_DISK, "disk_full"),
        (403, FULL_DISK_OF_OPENSEARCH, "disk_full"),
        (403, READ_ONLY, "read_only"),
        (403, NO_RIGHT, "forbidden"),
        (404, {"type": "index_not_found_exception", "reason": "no such index [zz1]"}, "no_index"),
        (400, {"type": "index_closed_exception", "reason": "closed"}, "misconfigured"),
        (400, {"type": "invalid_index_name_exception", "reason": "Invalid index name [BAD]"}, "misconfigured"),
        (400, {"type": "illegal_argument_exception", "reason": "pipeline with id [x] does not exist"}, "misconfigured"),
        (
            400,
            {
                "type": "illegal_argument_exception",
                "reason": "no write index is defined for alias [al]. The write index",
            },
            "misconfigured",
        ),
        (
            400,
            {
                "type": "validation_exception",
                "reason": "Validation Failed: 1: this action would add [2] shards, but this cluster currently has "
                "[5]/[1] maximum normal shards open;",
            },
            "misconfigured",
        ),
        (
            400,
            {
                "type": "validation_exception",
                "reason": "Validation Failed: 1: this action would add [2] total shards, but this cluster currently "
                "has [4]/[1] maximum shards open;",
            },
            "misconfigured",
        ),
    ],
)
def test_what_a_person_must_mend_at_the_destination_loses_nothing(status: int, error: Any, reason: str) -> None:
    delivery = judge(item(201), item(status, error))
    assert (delivery.retry, delivery.rejected, delivery.reason) == ((1,), (), reason)
    assert "nothing is lost" in delivery.detail
    assert error["reason"] in delivery.detail


def test_a_record_that_quotes_such_words_is_rejected_all_the_same() -> None:
    error = {"type": "document_parsing_exception", "reason": "failed: pipeline with id [x] does not exist, shards open"}
    delivery = judge(item(400, error))
    assert delivery.retry == ()


def test_what_needs_a_person_is_said_before_what_passes_by_itself() -> None:
    delivery = judge(item(429, BUSY), item(403, NO_RIGHT))
    assert delivery.retry == (0, 1)
    assert delivery.reason == "forbidden"


@pytest.mark.parametrize("error", [ELASTICSEARCH_DUPLICATE, OPENSEARCH_DUPLICATE])
def test_a_document_refused_for_equal_keys_is_encoded_again(error: Any) -> None:
    delivery = judge(item(400, error), source=b'{"a":1,"a":2}')
    assert (delivery.retry, delivery.reencode, delivery.rejected) == ((0,), (0,), ())
    assert delivery.reason == "duplicate_keys"


def test_a_document_without_equal_keys_is_rejected_whatever_its_words_say() -> None:
    delivery = judge(item(400, ELASTICSEARCH_DUPLICATE), source=b'{"a":1}')
    assert [r.index for r in delivery.rejected] == [0]


def test_a_document_that_comes_back_with_equal_keys_is_rejected_in_the_end() -> None:
    batch = plain_batch(1, b'{"a":1,"a":2}')
    for _ in range(MAX_REENCODES):
        delivery = judge_response(200, {}, answer(item(400, ELASTICSEARCH_DUPLICATE)), batch)
        assert delivery.reencode == (0,)
        remember(batch, delivery)
    assert batch.memo[REENCODES] == MAX_REENCODES
    assert judge_response(200, {}, answer(item(400, ELASTICSEARCH_DUPLICATE)), batch).rejected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b'{"a":1,"b":{"a":1}}', False),
        (b'{"a":1,"a":2}', True),
        (b'{"a":1,"\\u0061":2}', True),
        (b'{"a":[{"b":{"c":1,"c":1}}]}', True),
        (b"[" * 100_000, False),
        (b"nonsense", False),
    ],
)
def test_equal_keys_are_found_at_any_depth_and_however_they_are_written(document: bytes, expected: bool) -> None:
    assert has_equal_keys(document) is expected


def test_one_operation_over_the_servers_limit_splits_the_batch() -> None:
    """The server refuses every item of such a bulk, for ever."""
    delivery = judge(item(429, TOO_LARGE_OPERATION), item(429, TOO_LARGE_OPERATION))
    assert delivery.split


def test_a_large_batch_that_is_refused_again_and_again_is_split() -> None:
    batch = plain_batch(3, b'{"m":"' + b"x" * 300_000 + b'"}')
    for _ in range(SPLIT_REFUSALS):
        delivery = judge_response(200, {}, answer(*[item(429, BUSY)] * 3), batch)
        assert delivery.retry == (0, 1, 2)
        remember(batch, delivery)
    delivery = judge_response(200, {}, answer(*[item(429, BUSY)] * 3), batch)
    assert delivery.split
    remember(batch, delivery)
    assert judge_response(429, {}, b"", batch).retry == (0, 1, 2), "its halves get their own patience"


def test_a_small_batch_is_never_split_for_being_refused() -> None:
    batch = plain_batch(3)
    for _ in range(3 * SPLIT_REFUSALS):
        delivery = judge_response(429, {}, b"", batch)
        assert delivery.retry == (0, 1, 2)
        remember(batch, delivery)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_gets_everything_again_when_it_says(status: int) -> None:
    delivery = whole(status, "es_rejected_execution_exception", "rejected", headers={"Retry-After": "7"})
    assert delivery.retry == (0, 1, 2)
    assert delivery.delay_s == 7.0
    assert "rejected" in delivery.detail


def test_a_request_that_is_too_large_is_split() -> None:
    delivery = whole(413)
    assert delivery.split
    assert delivery.detail


def test_a_malformed_request_is_split_until_the_bad_record_stands_alone() -> None:
    assert whole(400, "x_content_e_o_f_exception", "[1:12] Unexpected end of file").split


@pytest.mark.parametrize(
    ("status", "kind", "words", "reason", "ambiguous"),
    [
        (401, "security_exception", "unable to authenticate user", "auth", False),
        (403, "security_exception", "action [bulk] is unauthorized", "forbidden", False),
        (400, "", "", "http_400", False),
        (400, "media_type_header_exception", "Invalid media-type value on headers", "http_400", False),
        (400, "illegal_argument_exception", "explicit index in bulk is not allowed", "http_400", False),
        (404, "", "", "http_404", False),
        (406, "", "", "http_406", False),
        (500, "exception", "oops", "http_500", True),
        (502, "", "", "http_502", True),
        (504, "", "", "http_504", True),
        (204, "", "", "http_204", True),
    ],
)
def test_other_whole_answers_count_as_none(status: int, kind: str, words: str, reason: str, ambiguous: bool) -> None:
    with pytest.raises(Disconnected) as caught:
        whole(status, kind, words)
    assert (caught.value.reason, caught.value.ambiguous) == (reason, ambiguous)


def test_plain_text_of_opensearch_is_understood() -> None:
    with pytest.raises(Disconnected, match="Unauthorized") as caught:
        judge_response(401, {"content-type": "text/plain"}, b"Unauthorized", plain_batch(1))
    assert caught.value.reason == "auth"


def test_a_proxys_page_is_told_by_its_title() -> None:
    page = b"<html>\n<head><title>504 Gateway Time-out</title></head>\n<body>...</body></html>"
    with pytest.raises(Disconnected, match=r"status 504: 504 Gateway Time-out$"):
        judge_response(504, {}, page, plain_batch(1))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (answer(item(201), item(201)), "incomplete"),
        (answer(item(201), item(201), item(201), item(201)), "incomplete"),
        (answer(item(201), item(429, BUSY), item(201))[:-20], "unreadable"),
        (b"", "unreadable"),
        (b"<html>login</html>", "unreadable"),
        (b'{"errors":true}', "unreadable"),
        (b'{"errors":false,"items":[{"index":{"status":201}}]}', "unreadable"),
    ],
)
def test_an_answer_that_does_not_tell_of_each_record_is_ambiguous(body: bytes, reason: str) -> None:
    with pytest.raises(Disconnected) as caught:
        judge_response(200, {}, body, plain_batch(3))
    assert (caught.value.reason, caught.value.ambiguous) == (reason, True)


def check_fates(status: int, body: bytes, records: int) -> None:
    """Each record has exactly one fate, or the answer counts as none."""
    try:
        delivery = judge_response(status, {}, body, plain_batch(records))
    except Disconnected:
        return
    rejected = [r.index for r in delivery.rejected]
    assert delivery.split or len(set(delivery.retry) | set(rejected)) == len(delivery.retry) + len(rejected)
    assert all(0 <= index < records for index in (*delivery.retry, *rejected))
    assert set(delivery.reencode) <= set(delivery.retry)
    assert 0 <= delivery.duplicates <= records - len(delivery.retry) - len(rejected)
    assert bool(delivery.retry) <= bool(delivery.reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
ERRORS = (
    st.none()
    | st.text()
    | st.fixed_dictionaries(
        {}, optional={"type": st.none() | st.text(), "reason": st.none() | st.text(), "caused_by": JSON}
    )
)
OUTCOMES = st.fixed_dictionaries(
    {"status": st.integers(-1, 1000) | JSON}, optional={"error": ERRORS | JSON, "failure_store": st.just("used") | JSON}
)


@given(st.integers(0, 999), st.binary(), st.integers(1, 5))
@example(200, b'{"errors":true,"items":[{"create":{"status":400,"error":' + b'{"caused_by":' * 5000, 1)
@example(200, b'{"errors":true,"items":[{"create":{"status":400,"error":"\xff"}}]}', 1)
@example(200, b'{"errors":true,"items":[{"create":{"status":1e999}}]}', 1)
@example(400, b'{"error":' + b"[" * 100_000, 1)
def test_no_bytes_at_all_break_the_judgement(status: int, body: bytes, records: int) -> None:
    check_fates(status, body, records)


@given(st.sampled_from([200, 400, 401, 403, 413, 429, 500, 503]), st.lists(OUTCOMES, min_size=1, max_size=5))
def test_each_record_has_exactly_one_fate(status: int, outcomes: list[Any]) -> None:
    body = json.dumps({"errors": True, "items": [{"create": outcome} for outcome in outcomes]}).encode()
    check_fates(status, body, len(outcomes))
