"""A Kubernetes API for benchmarks: it knows the pods of an account."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.world.account import Account
from benchmarks.world.kubernetes_api import FakeKubernetesApi


@asynccontextmanager
async def serve_pods(account: Account, *, wanted: bool, others: int = 0) -> AsyncIterator[str]:
    """Yields its URL, or `off`. `others`: pods of the same node without a log."""
    if not wanted:
        yield "off"
        return
    api = FakeKubernetesApi()
    await api.start()
    api.put_node("node-1")
    for namespace in sorted({container.namespace for container in account.containers}):
        api.put_namespace(namespace)
    for container in account.containers:
        owner = container.pod.rpartition("-")[0]
        api.add_pod(
            container.pod,
            namespace=container.namespace,
            uid=container.uid,
            containers=[container.container],
            labels=container.labels,
            annotations=container.annotations,
            owner=("ReplicaSet", owner),
        )
    for number in range(others):
        api.add_pod(f"quiet-{number}", namespace="shop", owner=("ReplicaSet", "quiet"))
    try:
        yield api.url
    finally:
        await api.stop()
