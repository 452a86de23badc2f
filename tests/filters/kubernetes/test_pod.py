"""What is kept of a pod's JSON."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.world.kubernetes_objects import make_pod, make_status
from shipper.filters.kubernetes.pod import Owner, Pod, Run, decode_pod, pack_pod, unpack_pod


def decode(**values: Any) -> Pod:
    return decode_pod(json.dumps(make_pod("cart-7d9f-x2x", **values)).encode())


def with_status(status: dict[str, Any], **values: Any) -> Pod:
    pod = make_pod("cart-7d9f-x2x", **values)
    pod["status"]["containerStatuses"] = [status]
    return decode_pod(json.dumps(pod).encode())


TEXTS = st.text(st.characters(codec="utf-8"), max_size=9)
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=3)
PODS = st.builds(
    Pod,
    uid=TEXTS,
    namespace=TEXTS,
    name=TEXTS,
    manifest=TEXTS,
    labels=LABELS,
    annotations=LABELS,
    owner=st.none() | st.builds(Owner, TEXTS, TEXTS),
    images=LABELS,
    runs=st.dictionaries(TEXTS, st.builds(Run, st.integers(), st.booleans()), max_size=2),
    finished=st.booleans(),
)


@given(PODS, PODS)
@settings(deadline=None)
def test_packed_pods_are_equal_when_the_pods_are(one: Pod, other: Pod) -> None:
    assert unpack_pod(pack_pod(one)) == one
    assert (pack_pod(one) == pack_pod(other)) == (one == other)
    turned = msgspec.structs.replace(one, labels=dict(reversed(one.labels.items())))
    assert pack_pod(turned) == pack_pod(one)


def test_a_pod_is_slimmed_to_what_records_need() -> None:
    pod = decode(namespace="shop", uid="u1", containers=("app", "proxy"), annotations={"a": "b"})
    assert (pod.uid, pod.namespace, pod.name, pod.node) == ("u1", "shop", "cart-7d9f-x2x", "node-1")
    assert pod.labels == {"app": "cart", "app.kubernetes.io/name": "cart"}
    assert pod.annotations == {"a": "b"}
    assert pod.images == {"app": "registry.example/app:1.2.3", "proxy": "registry.example/proxy:1.2.3"}
    assert len(msgspec.json.encode(pod)) < 500


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (("ReplicaSet", "cart-7d9f"), {}, Owner("Deployment", "cart")),
        (("ReplicaSet", "a-b-c-5f6"), {}, Owner("Deployment", "a-b-c")),
        (("ReplicaSet", "cart-7d9f"), {"pod-template-hash": "other"}, Owner("ReplicaSet", "cart-7d9f")),
        (("ReplicaSet", "bare"), {"pod-template-hash": ""}, Owner("ReplicaSet", "bare")),
        (("StatefulSet", "db"), {}, Owner("StatefulSet", "db")),
        (("Job", "backup-2911"), {}, Owner("Job", "backup-2911")),
        (None, {}, None),
    ],
)
def test_the_owner_is_the_controller(
    owner: tuple[str, str] | None, labels: dict[str, str], expected: Owner | None
) -> None:
    assert decode(owner=owner, labels=labels).owner == expected


def test_an_owner_that_is_no_controller_is_none() -> None:
    pod = make_pod("x", owner=("Job", "x"))
    pod["metadata"]["ownerReferences"][0]["controller"] = False
    assert decode_pod(json.dumps(pod).encode()).owner is None


def test_a_mirror_pod_has_two_uids_in_paths() -> None:
    assert decode(uid="u1", manifest_hash="hash1").path_uids == ("u1", "hash1")
    assert decode(uid="u1").path_uids == ("u1",)


@pytest.mark.parametrize(
    ("status", "restart", "ended"),
    [
        (make_status("app"), 0, False),
        (make_status("app", state="terminated"), 0, True),
        (make_status("app", restarts=1, last_state="terminated"), 0, True),
        (make_status("app", restarts=1, last_state="terminated"), 1, False),
        (make_status("app", restarts=1, state="waiting", last_state="terminated"), 1, True),
        (make_status("app", state="waiting"), 0, False),
        (make_status("app", restarts=3), 4, False),
        (make_status("app", state="terminated"), None, False),
        (make_status("other", state="terminated"), 0, False),
    ],
)
def test_a_run_has_ended_when_the_status_says_so(status: dict[str, Any], restart: int | None, ended: bool) -> None:
    assert with_status(status).has_ended("app", restart) is ended


def test_init_containers_end_too() -> None:
    pod = decode(init_containers=("migrate",))
    assert pod.has_ended("migrate", 0)
    assert pod.images["migrate"] == "registry.example/migrate:1.2.3"


@pytest.mark.parametrize(("phase", "ended"), [("Running", False), ("Succeeded", True), ("Failed", True)])
def test_all_containers_of_a_finished_pod_have_ended(phase: str, ended: bool) -> None:
    assert decode(phase=phase).has_ended("app", 0) is ended


def test_what_is_no_pod_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_pod(b'{"kind":"Status","metadata":{}}')
