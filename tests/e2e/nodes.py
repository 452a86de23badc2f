"""A node's pods on disk, and the same pods in the Kubernetes API."""

from benchmarks.world.account import Account
from benchmarks.world.generator import PodPlan
from benchmarks.world.kubelet import Kubelet
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import NODE

ARCHIVED = {"shipper.io/archive": "true"}


def announce(api: FakeKubernetesApi, account: Account) -> None:
    """Every container of a generated tree is a pod of the API."""
    for container in account.containers:
        api.add_pod(
            container.pod,
            namespace=container.namespace,
            uid=container.uid,
            node=NODE,
            containers=[container.container],
            labels=container.labels,
            annotations=container.annotations,
        )


class Mirror:
    """Tells the API of a kubelet's pods, as they come and go."""

    def __init__(self, kubelet: Kubelet, api: FakeKubernetesApi) -> None:
        self._kubelet, self._api = kubelet, api
        self._known = dict[str, PodPlan]()

    def sync(self) -> None:
        now = {pod.plan.uid: pod for pod in self._kubelet.pods}
        for uid in self._known.keys() - now.keys():
            plan = self._known.pop(uid)
            self._api.delete_pod(plan.name, namespace=plan.namespace)
        for uid in now.keys() - self._known.keys():
            plan = self._known[uid] = now[uid].plan
            self._api.add_pod(
                plan.name,
                namespace=plan.namespace,
                uid=uid,
                node=NODE,
                containers=[log.account.container for log in now[uid].logs],
                labels=plan.labels,
                annotations=plan.annotations,
            )
