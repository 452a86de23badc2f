"""What the watch relies on, held against the fake API server and a real one alike."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest

from benchmarks.world.kubernetes_api import FakeKubernetesApi
from shipper.filters.kubernetes.api import ApiError, KubernetesApi
from shipper.filters.kubernetes.config import KubernetesApiConfig
from shipper.filters.kubernetes.pace import Pace
from shipper.metrics import Metrics
from tests.servers.kubernetes.control_plane import ControlPlane

NODE = "contract-node"
INITIAL = {"fieldSelector": f"spec.nodeName={NODE}", "resourceVersion": "0", "allowWatchBookmarks": "true"}


class Cluster(Protocol):
    api: KubernetesApi

    async def add_pod(self, name: str, *, node: str) -> str: ...

    async def bind_pod(self, name: str) -> None: ...

    async def delete_pod(self, name: str) -> None: ...

    async def restart(self) -> None: ...


class Fake:
    def __init__(self, server: FakeKubernetesApi) -> None:
        self._server = server
        self.api = KubernetesApi(KubernetesApiConfig(url=server.url), Metrics(), Pace())

    async def add_pod(self, name: str, *, node: str) -> str:
        return self._server.add_pod(name, node=node)

    async def bind_pod(self, name: str) -> None:
        self._server.modify_pod(name, lambda pod: pod["spec"].update(nodeName=NODE))

    async def delete_pod(self, name: str) -> None:
        self._server.delete_pod(name)

    async def restart(self) -> None:
        await self._server.stop()
        await self._server.start()


class Real:
    def __init__(self, server: ControlPlane) -> None:
        self._server = server
        self.api = KubernetesApi(KubernetesApiConfig(kubeconfig=str(server.kubeconfig)), Metrics(), Pace())

    async def add_pod(self, name: str, *, node: str) -> str:
        spec: dict[str, Any] = {"containers": [{"name": "app", "image": "app:1"}], "schedulerName": "nobody"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        if node:
            spec["nodeName"] = node
        await self._kubectl("apply", "-f", "-", stdin=pod)
        uid: str = json.loads(await self._kubectl("get", "pod", name, "-o", "json"))["metadata"]["uid"]
        return uid

    async def bind_pod(self, name: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        path = f"/api/v1/namespaces/default/pods/{name}/binding"
        await self._kubectl("create", "--raw", path, "-f", "-", stdin=binding)

    async def delete_pod(self, name: str) -> None:
        await self._kubectl("delete", "pod", name, "--grace-period=0", "--force", "--ignore-not-found")

    async def restart(self) -> None:
        await asyncio.to_thread(self._server.kill_api)
        await asyncio.to_thread(self._server.start_api)

    async def _kubectl(self, *arguments: str, stdin: object = None) -> str:
        return await asyncio.to_thread(self._server.kubectl, *arguments, stdin=stdin)


@pytest.fixture
async def fake_cluster() -> AsyncIterator[Fake]:
    server = FakeKubernetesApi()
    await server.start()
    cluster = Fake(server)
    yield cluster
    await cluster.api.close()
    await server.stop()


@pytest.fixture
async def real_cluster(kubernetes_server: ControlPlane) -> AsyncIterator[Real]:
    cluster = Real(kubernetes_server)
    yield cluster
    for name in ("contract-1", "contract-2"):
        await cluster.delete_pod(name)
    await cluster.api.close()


@pytest.fixture(params=["fake", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    made: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return made


async def test_a_watch_from_the_cache_tells_of_all_and_then_says_so(cluster: Cluster) -> None:
    uids = {await cluster.add_pod(f"contract-{i}", node=NODE) for i in (1, 2)}
    told = []
    async with asyncio.timeout(100), cluster.api.watch("/api/v1/pods", INITIAL) as lines:
        while (event := json.loads(await lines.next()))["type"] == "ADDED":
            told.append(event["object"])
    assert {pod["metadata"]["uid"] for pod in told} == uids
    assert {pod["kind"] for pod in told} == {"Pod"}
    assert event["type"] == "BOOKMARK"
    assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert event["object"]["metadata"]["resourceVersion"].isdecimal()
    assert event["object"]["spec"]["containers"] is None


async def test_a_pod_is_added_when_it_is_bound_and_deleted_at_the_end(cluster: Cluster) -> None:
    kinds = []
    async with asyncio.timeout(100), cluster.api.watch("/api/v1/pods", INITIAL) as lines:
        assert json.loads(await lines.next())["type"] == "BOOKMARK"
        uid = await cluster.add_pod("contract-1", node="")
        await cluster.bind_pod("contract-1")
        await cluster.delete_pod("contract-1")
        versions = []
        while "DELETED" not in kinds:
            event = json.loads(await lines.next())
            if event["type"] == "BOOKMARK":
                continue
            assert event["object"]["metadata"]["uid"] == uid
            kinds.append(event["type"])
            versions.append(int(event["object"]["metadata"]["resourceVersion"]))
    assert kinds[0] == "ADDED"
    assert kinds[-1] == "DELETED"
    assert versions == sorted(set(versions))


async def test_after_a_restart_the_version_has_expired_with_an_error_within_a_200(cluster: Cluster) -> None:
    await cluster.add_pod("contract-1", node=NODE)
    listed = json.loads(await cluster.api.get("/api/v1/pods", kind="list"))
    await cluster.add_pod("contract-2", node=NODE)  # a server that was restarted knows nothing of what came before
    await cluster.restart()
    query = {**INITIAL, "resourceVersion": listed["metadata"]["resourceVersion"]}
    async with asyncio.timeout(100), cluster.api.watch("/api/v1/pods", query) as lines:
        event = json.loads(await lines.next())
        assert await lines.next() == b""
    assert event["type"] == "ERROR"
    assert (event["object"]["kind"], event["object"]["code"]) == ("Status", 410)
    assert event["object"]["reason"] == "Expired"


async def test_a_list_has_items_without_kind_and_a_version_to_go_on_from(cluster: Cluster) -> None:
    uid = await cluster.add_pod("contract-1", node=NODE)
    query = {"fieldSelector": f"spec.nodeName={NODE}", "resourceVersion": "0"}
    async with asyncio.timeout(100):
        listed = json.loads(await cluster.api.get("/api/v1/pods", query, kind="list"))
        (pod,) = listed["items"]
        assert pod["metadata"]["uid"] == uid
        assert "kind" not in pod
        version = listed["metadata"]["resourceVersion"]
        async with cluster.api.watch("/api/v1/pods", {**INITIAL, "resourceVersion": version}) as lines:
            await cluster.delete_pod("contract-1")
            while (event := json.loads(await lines.next()))["type"] in ("MODIFIED", "BOOKMARK"):
                pass
    assert event["type"] == "DELETED"


async def test_a_watch_ends_when_its_time_is_over(cluster: Cluster) -> None:
    async with asyncio.timeout(100), cluster.api.watch("/api/v1/pods", {**INITIAL, "timeoutSeconds": "1"}) as lines:
        assert json.loads(await lines.next())["type"] == "BOOKMARK"
        while line := await lines.next():
            assert json.loads(line)["type"] == "BOOKMARK"


async def test_what_is_not_there_is_404(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match='404: pods "contract-9" not found') as caught:
        await cluster.api.get("/api/v1/namespaces/default/pods/contract-9", kind="get")
    assert caught.value.status == 404
