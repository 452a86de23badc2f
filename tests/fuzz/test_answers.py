"""What servers say: any bytes, any JSON, and real answers with a few bytes changed."""

import json
from contextlib import suppress

import orjson
from hypothesis import given
from hypothesis import strategies as st

from shipper.errors import Disconnected
from shipper.filters.kubernetes.api import ApiError
from shipper.filters.kubernetes.cache import MetadataCache
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.kubernetes.metadata import Describer
from shipper.filters.kubernetes.pod import UNREADABLE
from shipper.filters.kubernetes.sinks import NamespaceSink, NodeSink, PodSink, Sink
from shipper.filters.kubernetes.watch import Progress
from shipper.outputs.elasticsearch.judge import judge_response, remember
from shipper.outputs.fates import check_fates
from tests.fuzz.damage import DAMAGES
from tests.outputs.elasticsearch.batches import plain_batch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MIXED_ANSWER = orjson.dumps(
    {
        "errors": True,
        "items": [
            {"create": {"status": 201}},
            {"create": {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "[i0]"}}},
            {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}},
            {
                "create": {
                    "status": 400,
                    "error": {"type": "document_parsing_exception", "reason": "Duplicate field 'a'", "caused_by": {}},
                }
            },
            {"create": {"status": 201, "failure_store": "used"}},
        ],
    }
)
GOOD_ANSWER = b'{"errors":false,"items":[' + b",".join([b'{"create":{"status":201}}'] * 5) + b"]}"


@given(
    st.sampled_from([200, 200, 200, 400, 401, 403, 408, 413, 429, 500, 502, 503, 504]),
    DAMAGES.map(lambda damage: damage.of(MIXED_ANSWER))
    | DAMAGES.map(lambda damage: damage.of(GOOD_ANSWER))
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.binary(),
    st.dictionaries(st.sampled_from(["retry-after", "Retry-After"]), st.text(max_size=20)),
    st.sampled_from([b'{"a":1}', b'{"a":1,"a":2}', b"{"]),
)
def test_any_bulk_answer_gives_each_record_one_fate_or_counts_as_none(
    status: int, body: bytes, headers: dict[str, str], source: bytes
) -> None:
    batch = plain_batch(5, source)
    for _ in range(2):
        try:
            delivery = judge_response(status, headers, body, batch)
        except Disconnected:
            return
        check_fates(delivery, batch.records)
        assert delivery.delay_s is None or delivery.delay_s >= 0
        remember(batch, delivery)


POD = {
    "kind": "Pod",
    "metadata": {
        "uid": "u",
        "name": "cart",
        "namespace": "shop",
        "resourceVersion": "7",
        "labels": {"a": "b"},
        "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "cart-1", "controller": True}],
    },
    "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "i"}]},
    "status": {
        "phase": "Running",
        "containerStatuses": [{"name": "app", "restartCount": 2, "state": {"terminated": {}}, "lastState": {}}],
    },
}


def event(kind: str, value: object) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"


KINDS = st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "OTHER"])
LINES = (
    st.builds(lambda kind, damage: damage.of(event(kind, POD)), KINDS, DAMAGES)
    | st.builds(event, KINDS, JSON)
    | KINDS.map(lambda kind: event(kind, POD))
    | st.binary()
)


@given(st.lists(LINES, max_size=8), st.sampled_from(["pods", "namespaces", "node"]), st.binary())
def test_no_watch_can_end_the_watching(lines: list[bytes], kind: str, listed: bytes) -> None:
    """What `Watch.run` knows: an ApiError, or that the line cannot be read. A good one is understood after all that."""
    cache = MetadataCache(Describer(KubernetesConfig()))
    sinks: dict[str, Sink] = {"pods": PodSink(cache), "namespaces": NamespaceSink(cache), "node": NodeSink(cache)}
    progress = Progress(sinks[kind])
    for line in lines:
        with suppress(ApiError, *UNREADABLE):
            progress.hear(line)
    with suppress(ApiError, *UNREADABLE):
        progress.take_list(listed)
    progress.begin_anew()
    progress.take_list(orjson.dumps({"metadata": {"resourceVersion": "9"}, "items": [POD]}))
    assert progress.version == "9"
    assert kind != "pods" or [pod.uid for pod in cache.pods()].count("u") == 1
