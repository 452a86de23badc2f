"""The whole filter against the fake API server: what the watch tells, what is asked for, what survives trouble."""

import tracemalloc
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.world.kubernetes_objects import Object
from shipper.filters.base import Lookup, Metadata
from shipper.filters.kubernetes.config import KubernetesApiConfig, KubernetesConfig
from shipper.filters.kubernetes.filter import KubernetesFilter
from shipper.metrics import Metrics
from tests.filters.kubernetes.conftest import (
    ASKS_SOON,
    HAS_NO_PATIENCE,
    LISTS_SOON,
    NODE,
    QUICK,
    World,
    known,
    source_of,
    until,
)


def verbs(world: World, resource: str = "pods") -> list[str]:
    return [request.verb for request in world.api.requests if request.resource == resource]


async def test_pods_of_this_node_are_known_from_one_watch(world: World) -> None:
    uid = world.api.add_pod("cart-7d9f-x2x", namespace="shop", owner=("ReplicaSet", "cart-7d9f"))
    world.api.add_pod("other-1", node="node-2")
    async with world.filter() as kubernetes:
        answer = await known(kubernetes, source_of(uid, "cart-7d9f-x2x", namespace="shop"))
        await until(lambda: kubernetes.status()["complete"])
        assert kubernetes.pods() == 1
        assert kubernetes.watch_age_s() < 60
    assert answer.document == {
        "host": NODE,
        "container_image": "registry.example/app:1.2.3",
        "labels": {"app": "cart", "app.kubernetes.io/name": "cart", "pod-template-hash": "7d9f"},
        "owner": {"kind": "Deployment", "name": "cart"},
    }
    assert verbs(world) == ["watch"]
    query = world.api.requests[0].query
    assert query["fieldSelector"] == f"spec.nodeName={NODE}"
    assert query["resourceVersion"] == "0"
    assert query["allowWatchBookmarks"] == "true"
    assert query["timeoutSeconds"] == "60"


async def test_a_change_is_told_and_makes_a_new_answer(world: World) -> None:
    uid = world.api.add_pod("web-1")
    changed: list[str] = []
    async with world.filter() as kubernetes:
        kubernetes.on_change(changed.append)
        first = await known(kubernetes, source_of(uid, "web-1"))
        changed.clear()
        world.api.modify_pod("web-1", lambda pod: pod["metadata"]["labels"].update(tier="gold"))
        await until(lambda: uid in changed)
        second = await known(kubernetes, source_of(uid, "web-1"))
    assert second is not first
    assert second.labels["tier"] == "gold"


async def test_a_change_of_what_is_not_asked_for_keeps_the_answer(world: World) -> None:
    uid = world.api.add_pod("web-1")

    def ready(pod: Object) -> None:
        pod["status"]["conditions"][2]["status"] = "False"

    changed: list[str] = []
    async with world.filter() as kubernetes:
        first = await known(kubernetes, source_of(uid, "web-1"))
        kubernetes.on_change(changed.append)
        world.api.modify_pod("web-1", ready)
        later = world.api.add_pod("web-2")  # told after it, on the same watch
        await known(kubernetes, source_of(later, "web-2"))
        assert await known(kubernetes, source_of(uid, "web-1")) is first
    assert uid not in changed


async def test_a_pod_that_is_bound_to_the_node_later_becomes_known(world: World) -> None:
    uid = world.api.add_pod("late-1", node="")
    async with world.filter() as kubernetes:
        await until(lambda: kubernetes.status()["complete"])
        assert kubernetes.pods() == 0
        world.api.modify_pod("late-1", lambda pod: pod["spec"].update(nodeName=NODE))
        assert (await known(kubernetes, source_of(uid, "late-1"))).document["host"] == NODE


async def test_the_end_of_a_container_is_seen(world: World) -> None:
    uid = world.api.add_pod("job-1")
    async with world.filter() as kubernetes:
        source = source_of(uid, "job-1")
        assert not (await known(kubernetes, source)).terminated
        world.api.set_container("job-1", "app", state="terminated")
        await until(lambda: getattr(kubernetes.lookup(source), "terminated", False))


async def test_a_deleted_pod_stays_known_while_it_is_retained(world: World) -> None:
    uid = world.api.add_pod("gone-1")
    async with world.filter() as kubernetes:
        before = await known(kubernetes, source_of(uid, "gone-1"))
        world.api.delete_pod("gone-1")
        await until(lambda: kubernetes.pods() == 0)
        kubernetes.retain({uid})
        assert kubernetes.lookup(source_of(uid, "gone-1")) is before


async def test_bookmarks_are_no_pods_and_move_the_version(world: World) -> None:
    uid = world.api.add_pod("web-1")
    async with world.filter() as kubernetes:
        await known(kubernetes, source_of(uid, "web-1"))
        await until(lambda: kubernetes.status()["complete"])
        world.api.add_pod("elsewhere", node="node-2")  # moves the server's version, and only a bookmark says so
        version = str(world.api.version)
        await until(lambda: kubernetes.status()["version"] == version)
        world.api.cut()
        await until(lambda: len(world.api.requests) == 2)
        assert kubernetes.pods() == 1
    assert world.api.requests[1].query["resourceVersion"] == version


async def test_an_expired_watch_begins_anew_and_finds_what_is_gone(world: World) -> None:
    stays, goes = world.api.add_pod("stays-1"), world.api.add_pod("goes-1")
    async with world.filter() as kubernetes:
        await until(lambda: kubernetes.pods() == 2)
        await until(lambda: kubernetes.status()["complete"])
        await world.api.stop()
        world.api.delete_pod("goes-1")
        comes = world.api.add_pod("comes-1")
        await world.api.start()
        await known(kubernetes, source_of(comes, "comes-1"))
        await until(lambda: kubernetes.pods() == 2)
        assert isinstance(kubernetes.lookup(source_of(stays, "stays-1")), Metadata)
        assert isinstance(kubernetes.lookup(source_of(goes, "goes-1")), Metadata)  # its last lines may be unread
    versions = [request.query.get("resourceVersion") for request in world.api.requests if request.verb == "watch"]
    assert versions[0] == "0"
    assert versions[-1] == "0"
    assert any(version != "0" for version in versions)  # it was tried to continue, and got 410
    assert "list" not in verbs(world)


async def test_a_server_without_the_end_of_initial_events_is_asked_for_a_list(world: World) -> None:
    world.api.trouble.sends_initial_events_end = False
    uid = world.api.add_pod("old-1")
    async with world.filter(pace=LISTS_SOON) as kubernetes:
        await until(lambda: kubernetes.status()["complete"])
        gone = world.api.add_pod("old-2")
        await known(kubernetes, source_of(gone, "old-2"))
        assert isinstance(kubernetes.lookup(source_of(uid, "old-1")), Metadata)
    assert verbs(world) == ["watch", "list", "watch"]
    assert world.api.requests[1].query == {"fieldSelector": f"spec.nodeName={NODE}", "resourceVersion": "0"}
    assert world.api.requests[2].query["resourceVersion"] != "0"


async def test_a_list_that_takes_too_long_is_tried_again(world: World) -> None:
    world.api.trouble.sends_initial_events_end = False
    world.api.trouble.list_delay_s = 5.0
    async with world.filter(pace=replace(LISTS_SOON, request_timeout_s=0.5)) as kubernetes:
        await until(lambda: "no answer in time" in kubernetes.status()["error"])
        world.api.trouble.list_delay_s = 0.0
        await until(lambda: kubernetes.status()["complete"])
    assert verbs(world).count("list") >= 2


async def test_a_watch_that_the_server_ends_is_continued(world: World) -> None:
    async with world.filter(pace=replace(QUICK, watch_lasts_s=(1.0, 1.0))) as kubernetes:
        await until(lambda: verbs(world).count("watch") >= 2)
        assert world.api.requests[1].query["resourceVersion"] != "0"
        uid = world.api.add_pod("web-1")
        await known(kubernetes, source_of(uid, "web-1"))
    assert "list" not in verbs(world)


async def test_a_rotated_token_is_read_again(world: World, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    world.api.trouble.tokens = {"first"}
    async with world.filter(token_file=str(token)) as kubernetes:
        await until(lambda: kubernetes.status()["complete"])
        world.api.trouble.tokens = {"second"}
        world.api.cut()
        await until(lambda: "401" in kubernetes.status()["error"])
        token.write_text("second\n")
        uid = world.api.add_pod("web-1")
        await known(kubernetes, source_of(uid, "web-1"))
    assert {request.token for request in world.api.requests} == {"first", "second"}


async def test_a_missing_right_is_tried_again_until_it_is_there(world: World) -> None:
    uid = world.api.add_pod("web-1")
    world.api.trouble.forbidden = {"pods"}
    async with world.filter() as kubernetes:
        await until(lambda: "cannot watch" in kubernetes.status()["error"])
        assert kubernetes.lookup(source_of(uid, "web-1")) is Lookup.UNKNOWN
        world.api.trouble.forbidden = set()
        await known(kubernetes, source_of(uid, "web-1"))
        await until(lambda: not kubernetes.status()["error"])


async def test_a_server_that_hangs_is_left_and_tried_again(world: World) -> None:
    uid = world.api.add_pod("web-1")
    world.api.trouble.hangs = True
    async with world.filter(pace=HAS_NO_PATIENCE) as kubernetes:
        await until(lambda: "no answer in time" in kubernetes.status()["error"])
        world.api.trouble.hangs = False
        await known(kubernetes, source_of(uid, "web-1"))


async def test_a_watch_that_falls_silent_is_taken_for_dead(world: World) -> None:
    world.api.trouble.sends_bookmarks = False
    async with world.filter(pace=replace(QUICK, watch_silence_s=0.3)) as kubernetes:
        await until(lambda: verbs(world).count("watch") >= 3)
        assert "no answer in time" in kubernetes.status()["error"]


async def test_retry_after_is_honoured(world: World) -> None:
    world.api.trouble.status, world.api.trouble.retry_after_s = 429, 1
    async with world.filter() as kubernetes:
        await until(lambda: "429" in kubernetes.status()["error"])
        world.api.trouble.status = 0
        uid = world.api.add_pod("web-1")
        await until(lambda: kubernetes.pods() == 1)
        assert isinstance(kubernetes.lookup(source_of(uid, "web-1")), Metadata)
    assert verbs(world) == ["watch", "watch"]  # 20 ms between attempts would have made many more


async def test_a_pod_that_the_watch_does_not_tell_of_is_asked_for_once(world: World) -> None:
    uid = world.api.add_pod("moved-1", node="node-2")
    async with world.filter(pace=ASKS_SOON) as kubernetes:
        answer = await known(kubernetes, source_of(uid, "moved-1"))
    assert answer.document["host"] == "node-2"
    assert verbs(world).count("get") == 1


@pytest.mark.parametrize("name", ["never-was", "replaced-1"])
async def test_a_pod_that_the_api_does_not_have_is_absent(world: World, name: str) -> None:
    world.api.add_pod("replaced-1")  # under another uid
    changed: list[str] = []
    async with world.filter(pace=ASKS_SOON) as kubernetes:
        kubernetes.on_change(changed.append)
        source = source_of("0000-gone", name)
        assert kubernetes.lookup(source) is Lookup.UNKNOWN
        await until(lambda: "0000-gone" in changed)
        assert kubernetes.lookup(source) is Lookup.ABSENT
        assert kubernetes.lookup(source) is Lookup.ABSENT
    assert verbs(world).count("get") == 1


async def test_questions_wait_for_the_server_and_are_answered_then(world: World) -> None:
    uid = world.api.add_pod("moved-1", node="node-2")
    world.api.trouble.status = 503
    async with world.filter(pace=ASKS_SOON) as kubernetes:
        source = source_of(uid, "moved-1")
        assert kubernetes.lookup(source) is Lookup.UNKNOWN
        await until(lambda: verbs(world).count("get") >= 3)
        assert kubernetes.lookup(source) is Lookup.UNKNOWN  # 503 says nothing about the pod
        world.api.trouble.status = 0
        await known(kubernetes, source)
        assert kubernetes.status()["unanswered"] == 0


async def test_a_static_pod_is_found_by_its_manifest_and_by_its_uid(world: World) -> None:
    uid = world.api.add_pod("etcd-node-1", namespace="kube-system", manifest_hash="6cf2d5ad3d1b6a3f")
    async with world.filter() as kubernetes:
        by_hash = await known(kubernetes, source_of("6cf2d5ad3d1b6a3f", "etcd-node-1", namespace="kube-system"))
        by_uid = await known(kubernetes, source_of(uid, "etcd-node-1", namespace="kube-system"))
    assert by_hash.document["pod_id"] == uid
    assert "pod_id" not in by_uid.document
    assert by_hash.document["owner"] == {"kind": "Node", "name": NODE}


async def test_labels_of_namespace_and_node_are_there_when_asked_for(world: World) -> None:
    world.api.put_namespace("shop", {"team": "checkout", "secret": "x"})
    world.api.put_node(NODE, {"topology.kubernetes.io/zone": "eu-1a"})
    world.api.put_node("node-2", {"topology.kubernetes.io/zone": "eu-1b"})
    uid = world.api.add_pod("cart-1", namespace="shop")
    async with world.filter(namespace_labels=("team",), node_labels=("topology.kubernetes.io/*",)) as kubernetes:
        source = source_of(uid, "cart-1", namespace="shop")
        answer = await known(kubernetes, source)
        assert answer.document["namespace_labels"] == {"team": "checkout"}
        assert answer.document["node_labels"] == {"topology.kubernetes.io/zone": "eu-1a"}
        world.api.put_namespace("shop", {"team": "payment"})
        await until(lambda: kubernetes.lookup(source) is not answer)
        renewed = await known(kubernetes, source)
        assert renewed.document["namespace_labels"] == {"team": "payment"}
    (node_watch,) = [request for request in world.api.requests if request.resource == "nodes"]
    assert node_watch.query["fieldSelector"] == f"metadata.name={NODE}"


async def test_pods_do_not_wait_for_labels_that_are_forbidden(world: World) -> None:
    world.api.trouble.forbidden = {"namespaces", "nodes"}
    uid = world.api.add_pod("cart-1")
    async with world.filter(namespace_labels=("*",), node_labels=("*",)) as kubernetes:
        assert "namespace_labels" not in (await known(kubernetes, source_of(uid, "cart-1"))).document


async def test_only_pods_are_asked_for_by_default(world: World) -> None:
    async with world.filter() as kubernetes:
        await until(lambda: kubernetes.status()["complete"])
    assert {request.resource for request in world.api.requests} == {"pods"}


async def test_a_snapshot_serves_a_restart_while_the_api_is_down(world: World, tmp_path: Path) -> None:
    world.api.put_namespace("shop", {"team": "checkout"})
    uid = world.api.add_pod("cart-1", namespace="shop")
    source = source_of(uid, "cart-1", namespace="shop")
    async with world.filter(state_dir=tmp_path, namespace_labels=("team",)) as kubernetes:
        before = await known(kubernetes, source)
    await world.api.stop()
    async with world.filter(state_dir=tmp_path, namespace_labels=("team",)) as kubernetes:
        assert kubernetes.lookup(source) == before
        world.api.modify_pod("cart-1", lambda pod: pod["metadata"]["labels"].update(tier="gold"), namespace="shop")
        await world.api.start()
        await until(lambda: kubernetes.lookup(source) != before)  # the watch knows better than the snapshot
        assert (await known(kubernetes, source)).labels["tier"] == "gold"


async def test_the_snapshot_is_written_while_running(world: World, tmp_path: Path) -> None:
    uid = world.api.add_pod("web-1")
    async with world.filter(state_dir=tmp_path):
        await until(lambda: any(uid in file.read_text() for file in tmp_path.glob("*.json")))


async def test_a_snapshot_that_cannot_be_read_is_begun_anew(world: World, tmp_path: Path) -> None:
    (tmp_path / "metadata-kubernetes.json").write_text('{"version":1,"pods":[{"uid"')
    uid = world.api.add_pod("web-1")
    async with world.filter(state_dir=tmp_path) as kubernetes:
        await known(kubernetes, source_of(uid, "web-1"))
    assert uid in (tmp_path / "metadata-kubernetes.json").read_text()


async def test_the_node_is_found_by_asking_for_our_own_pod(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "shipper-x1")
    monkeypatch.setenv("POD_NAMESPACE", "logging")
    world.api.add_pod("shipper-x1", namespace="logging", node="node-7")
    uid = world.api.add_pod("web-1", node="node-7")
    async with world.filter(node_name=None) as kubernetes:
        await until(lambda: kubernetes.pods() == 2)
        assert kubernetes.node == "node-7"
        await known(kubernetes, source_of(uid, "web-1"))


async def test_the_node_is_found_from_a_pod_whose_log_lies_here(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    uid = world.api.add_pod("web-1", node="node-7")
    world.api.add_pod("web-2", node="node-7")
    async with world.filter(pace=ASKS_SOON, node_name=None) as kubernetes:
        await until(lambda: "the name of this node is not known" in caplog.text)
        await known(kubernetes, source_of(uid, "web-1"))
        await until(lambda: kubernetes.pods() == 2)
        assert kubernetes.node == "node-7"


async def test_with_the_api_off_the_node_is_all_there_is() -> None:
    kubernetes = KubernetesFilter(KubernetesConfig(api="off", node_name=NODE), Metrics())
    answer = kubernetes.lookup(source_of("1", "web-1"))
    assert answer == Metadata(document={"host": NODE})
    assert kubernetes.lookup(source_of("2", "web-2")) is answer
    assert (kubernetes.pods(), kubernetes.watch_age_s()) == (0, 0.0)  # nothing for an alert on its age to fire on
    await kubernetes.close()


async def test_check_says_what_works(world: World) -> None:
    world.api.trouble.forbidden = {"nodes"}
    config = KubernetesConfig(
        api=KubernetesApiConfig(url=world.api.url), node_name=NODE, namespace_labels=("*",), node_labels=("*",)
    )
    kubernetes = KubernetesFilter(config, Metrics(), pace=QUICK)
    findings = await kubernetes.check()
    await kubernetes.close()
    assert [(ok, what.partition(":")[0]) for ok, what, _ in findings] == [
        (True, f"list and watch pods with spec.nodeName={NODE}"),
        (True, "list and watch namespaces"),
        (False, f"list and watch nodes with metadata.name={NODE}"),
    ]
    assert "ClusterRole with get, list and watch on nodes" in findings[2][2]


async def test_check_says_that_nobody_is_there(world: World) -> None:
    await world.api.stop()
    kubernetes = KubernetesFilter(
        KubernetesConfig(api=KubernetesApiConfig(url=world.api.url), node_name=NODE), Metrics(), pace=QUICK
    )
    ((ok, what, mend),) = await kubernetes.check()
    await kubernetes.close()
    assert not ok
    assert "Connect call failed" in what or "Cannot connect" in what
    assert "NetworkPolicy" in mend


async def test_requests_are_counted(world: World) -> None:
    world.api.trouble.forbidden = {"pods"}
    async with world.filter() as kubernetes:
        await until(lambda: kubernetes.status()["error"])
        world.api.trouble.forbidden = set()
        await until(lambda: kubernetes.status()["complete"])
    counted = world.metrics.registry.get_sample_value
    assert (counted("shipper_kubernetes_requests_total", {"kind": "watch", "status": "403"}) or 0) >= 1
    assert counted("shipper_kubernetes_requests_total", {"kind": "watch", "status": "200"}) == 1


async def test_five_thousand_pods_take_little_memory_on_the_way(world: World) -> None:
    uids = [world.api.add_pod(f"web-{i}", owner=("ReplicaSet", "web-77")) for i in range(5000)]
    async with world.filter() as kubernetes:
        tracemalloc.start()
        try:
            await until(lambda: kubernetes.status()["complete"])
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kubernetes.pods() == 5000
        assert isinstance(kubernetes.lookup(source_of(uids[-1], "web-4999")), Metadata)
    assert kept < 20 * 2**20
    assert peak - kept < 4 * 2**20
