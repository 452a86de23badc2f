"""Against a real kube-apiserver with RBAC: the manifest's rights, the watch through crashes, the rollout."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shipper.filters.base import Lookup, Metadata
from shipper.filters.kubernetes.config import KubernetesApiConfig, KubernetesConfig
from shipper.filters.kubernetes.filter import KubernetesFilter
from shipper.metrics import Metrics
from shipper.tasks import TaskGuard
from tests.filters.kubernetes.conftest import QUICK, known, source_of, until
from tests.servers.kubernetes.control_plane import ControlPlane

MANIFEST = Path(__file__).parents[3] / "deploy" / "daemonset.yaml"
NAMESPACE = "shipper"
TIMEOUT_S = 100.0
REAL = replace(QUICK, grace_s=1.0)  # who is not there is asked for soon


class Cluster:
    """A control plane with two nodes, and deploy/daemonset.yaml applied to it as a user would."""

    def __init__(self, server: ControlPlane, token_file: Path) -> None:
        self.server = server
        self.token_file = token_file

    def config(self, **values: Any) -> KubernetesConfig:
        """With the rights of the manifest's ServiceAccount, and no others."""
        api = KubernetesApiConfig(
            url=self.server.url, ca_file=str(self.server.ca_file), token_file=str(self.token_file)
        )
        return KubernetesConfig(api=api, **{"node_name": "node-1", **values})

    @asynccontextmanager
    async def filter(self) -> AsyncIterator[KubernetesFilter]:
        made = KubernetesFilter(self.config(), Metrics(), pace=REAL)
        await made.start(None)
        try:
            async with TaskGuard() as guard:
                guard.start(made.run, name="filter", endless=True)
                yield made
                guard.cancel()
        finally:
            await made.close()

    async def add_pod(self, name: str, *, node: str = "node-1", labels: dict[str, str] | None = None) -> str:
        """Its uid."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name, **(labels or {})}},
            "spec": {"nodeName": node, "containers": [{"name": "app", "image": "app:1"}]},
        }
        await asyncio.to_thread(self.server.kubectl, "apply", "-f", "-", stdin=pod)
        uid: str = (await asyncio.to_thread(self.server.get, "pod", name))["metadata"]["uid"]
        return uid

    async def kubectl(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.server.kubectl, *arguments)


def make_node(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    taints = [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}] if name == "node-2" else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints},
    }


@pytest.fixture(scope="module")
def cluster(kubernetes_server: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    server = kubernetes_server
    for node in ("node-1", "node-2"):
        server.kubectl("apply", "-f", "-", stdin=make_node(node))
    server.kubectl("apply", "--validate=strict", "-f", str(MANIFEST))
    token_file = tmp_path_factory.mktemp("account") / "token"
    token_file.write_text(server.make_token(NAMESPACE, "shipper"))
    yield Cluster(server, token_file)
    server.kubectl("delete", "--wait=false", "-f", str(MANIFEST))
    server.kubectl("delete", "--wait=false", "node", "node-1", "node-2")


def test_the_manifest_is_admitted_and_rolled_out_to_every_node(cluster: Cluster) -> None:
    cluster.server.kubectl("rollout", "status", "daemonset/shipper", "-n", NAMESPACE, f"--timeout={TIMEOUT_S:.0f}s")
    pods = cluster.server.get("pods", "-n", NAMESPACE)["items"]
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == ["node-1", "node-2"]  # node-2 is tainted
    assert {pod["spec"]["priorityClassName"] for pod in pods} == {"system-node-critical"}
    events = cluster.server.get("events", "-n", NAMESPACE, "--field-selector=type=Warning")["items"]
    assert [event["message"] for event in events if event["reason"] == "FailedCreate"] == []


def test_without_its_label_the_namespace_would_refuse_the_pods(cluster: Cluster) -> None:
    server = cluster.server
    server.kubectl("create", "namespace", "strict")
    try:
        server.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=baseline")
        pod = server.get("daemonset", "shipper", "-n", NAMESPACE)["spec"]["template"]
        pod |= {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "strict"}}
        pod["spec"] |= {"serviceAccountName": "default", "priorityClassName": ""}
        with pytest.raises(AssertionError, match="hostPath"):
            server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=pod)
    finally:
        server.kubectl("delete", "--wait=false", "namespace", "strict")


async def test_the_rights_of_the_manifest_are_enough_and_no_more(cluster: Cluster) -> None:
    account = f"--as=system:serviceaccount:{NAMESPACE}:shipper"
    for verb in ("get", "list", "watch"):
        assert (await cluster.kubectl("auth", "can-i", verb, "pods", "-A", account)).strip() == "yes"
    listed = await cluster.kubectl("auth", "can-i", "--list", account)
    assert not [line for line in listed.splitlines() if line.startswith(("secrets", "configmaps", "nodes", "*"))]
    kubernetes = KubernetesFilter(cluster.config(namespace_labels=("*",), node_labels=("*",)), Metrics(), pace=QUICK)
    findings = await kubernetes.check()
    await kubernetes.close()
    assert [ok for ok, _, _ in findings] == [True, False, False]


async def test_the_initial_events_end_without_a_list(cluster: Cluster) -> None:
    uid = await cluster.add_pod("first")
    await cluster.add_pod("elsewhere", node="node-2")
    async with cluster.filter() as kubernetes:
        answer = await known(kubernetes, source_of(uid, "first"))
        await until(lambda: kubernetes.status()["complete"])
        pods = cluster.server.get("pods", "-A", "--field-selector=spec.nodeName=node-1")["items"]
        assert kubernetes.pods() == len(pods)
    assert answer.document["host"] == "node-1"
    assert answer.document["labels"] == {"app": "first"}
    assert answer.document["container_image"] == "app:1"


async def test_changes_and_deletion_are_told(cluster: Cluster) -> None:
    async with cluster.filter() as kubernetes:
        uid = await cluster.add_pod("changing")
        source = source_of(uid, "changing")
        await known(kubernetes, source)
        await cluster.kubectl("label", "pod", "changing", "tier=gold")
        await until(lambda: "tier" in getattr(kubernetes.lookup(source), "labels", {}))
        pods = kubernetes.pods()
        await cluster.kubectl("delete", "pod", "changing", "--grace-period=0", "--force")
        await until(lambda: kubernetes.pods() == pods - 1)
        assert isinstance(kubernetes.lookup(source), Metadata)


async def test_a_pod_that_is_not_there_is_absent(cluster: Cluster) -> None:
    uid = await cluster.add_pod("present")
    async with cluster.filter() as kubernetes:
        for source in (source_of("0-0", "never-was"), source_of("0-1", "present")):
            assert kubernetes.lookup(source) is Lookup.UNKNOWN
            await until(lambda source=source: kubernetes.lookup(source) is Lookup.ABSENT)  # type: ignore[misc]
        await known(kubernetes, source_of(uid, "present"))


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_the_watch_survives_an_api_server_that_is(cluster: Cluster, how: str) -> None:
    server = cluster.server
    stays = await cluster.add_pod(f"stays-{how}")
    await cluster.add_pod(f"goes-{how}")
    async with cluster.filter() as kubernetes:
        await until(lambda: kubernetes.status()["complete"])
        before = kubernetes.pods()
        await asyncio.to_thread(server.kill_api if how == "killed" else server.stop_api)
        await until(lambda: kubernetes.status()["error"])
        assert isinstance(kubernetes.lookup(source_of(stays, f"stays-{how}")), Metadata)
        await asyncio.to_thread(server.start_api)
        await cluster.kubectl("delete", "pod", f"goes-{how}", "--grace-period=0", "--force")
        comes = await cluster.add_pod(f"comes-{how}")
        await until(
            lambda: isinstance(kubernetes.lookup(source_of(comes, f"comes-{how}")), Metadata), timeout_s=TIMEOUT_S
        )
        await until(lambda: kubernetes.pods() == before and not kubernetes.status()["error"])


async def test_a_token_that_is_not_valid_any_more_is_read_again(cluster: Cluster, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("eyJhbGciOiJSUzI1NiJ9.e30.bm90LXNpZ25lZA")
    uid = await cluster.add_pod("patient")
    async with Cluster(cluster.server, token_file).filter() as kubernetes:
        await until(lambda: "401" in kubernetes.status()["error"])
        token_file.write_text(cluster.server.make_token(NAMESPACE, "shipper"))
        await known(kubernetes, source_of(uid, "patient"))
