"""The demo's node: pods that write, rotate, restart, come and go, and the API server that knows of them."""

import asyncio
import random
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.world.account import ContainerAccount
from benchmarks.world.clock import Clock
from benchmarks.world.generator import PodPlan, plan_pods
from benchmarks.world.kubelet import Kubelet, Pod, Settings
from benchmarks.world.kubernetes_api import FakeKubernetesApi

NAME = "demo-node"
PODS = 8
ARCHIVE = {"shipper.io/archive": "true"}
PAST_NS = 60 * 10**9  # the node's clock is behind ours, since each rotation in the same second moves it on
STEP_S = 0.05
BURSTS_A_STEP = 15
BURST_RECORDS = 10
LOG_BYTES = 400_000  # a log is rotated when it is larger


class Node:
    """Pods of several namespaces; one of them says that it is to be archived, one has a sidecar."""

    def __init__(self, pods_folder: Path, api: FakeKubernetesApi, *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._api = api
        clock = Clock(time.time_ns() - PAST_NS, factor=1)
        settings = Settings(max_size=LOG_BYTES, interval_s=0)
        self.kubelet = Kubelet(pods_folder, seed=seed, clock=clock, settings=settings)
        *plans, late = plan_pods(PODS + 1, self._rng)
        self._guest_plan = late
        self._guest: Pod | None = None
        api.put_node(NAME)
        plans[1] = replace(plans[1], annotations=ARCHIVE)
        for number, plan in enumerate(plans):
            self._create(plan, sidecars=["proxy"] if number == 0 else [])
        self._write_the_past()

    def _create(self, plan: PodPlan, *, sidecars: list[str]) -> Pod:
        self._api.add_pod(
            plan.name,
            namespace=plan.namespace,
            uid=plan.uid,
            node=NAME,
            containers=[plan.container, *sidecars],
            labels=plan.labels,
            annotations=plan.annotations,
            owner=("ReplicaSet", plan.name.rpartition("-")[0]),
        )
        return self.kubelet.create_pod(plan, containers=sidecars)

    def _write_the_past(self) -> None:
        """What is there before the shipper: a plain rotated file for each container, and compressed ones."""
        for _ in range(3):
            for log in self.kubelet.logs:
                log.write(200)
                self.kubelet.rotate(log)
            self.kubelet.clock.advance(1)

    def write(self) -> None:
        """What happens in STEP_S: records everywhere, and now and then one that a rotation cuts in two."""
        for _ in range(BURSTS_A_STEP):
            self._rng.choice(self.kubelet.logs).write(BURST_RECORDS)
        if self._rng.random() < 0.05:
            log = self._rng.choice(self.kubelet.logs)
            log.begin_long()
            self.kubelet.rotate(log)
            log.end_long()
        self.kubelet.tick()

    def add_guest(self) -> None:
        """A pod that the shipper has not seen at its start."""
        self._guest = self._create(self._guest_plan, sidecars=[])

    def restart_container(self) -> None:
        pod = self.kubelet.pods[2]
        self.kubelet.restart_container(pod.log, last_words=True)
        self._api.set_container(pod.plan.name, pod.plan.container, namespace=pod.plan.namespace, restarts=1)

    def delete_guest(self) -> None:
        assert self._guest is not None, "it was added before"
        self.kubelet.delete_pod(self._guest)
        self._api.delete_pod(self._guest_plan.name, namespace=self._guest_plan.namespace)


def is_archived(container: ContainerAccount) -> bool:
    return container.annotations == ARCHIVE


async def live(node: Node, seconds: float) -> None:
    """Writes for so long; at each quarter something happens."""
    steps = max(4, int(seconds / STEP_S))
    events = {steps // 4: node.add_guest, steps // 2: node.restart_container, steps * 3 // 4: node.delete_guest}
    for step in range(steps):
        node.write()
        if step in events:
            events[step]()
        await asyncio.sleep(STEP_S)
