"""The daemon beside a kubelet that writes, rotates, compresses, restarts containers, and deletes pods."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from benchmarks.world.account import Account
from benchmarks.world.clock import Clock
from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.kubelet import Kubelet, Settings
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.life import Life
from benchmarks.world.runtime import ContainerLog
from tests.e2e.configs import Part, metadata, tail, to_elasticsearch, to_files
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.judge import filed, judge, stored
from tests.e2e.nodes import Mirror

STEPS = 300
STEP_S = 0.02  # the pace of life
KILLS = 6


class ObservableLife(Life):
    """Nothing is written to a file that nobody could have seen before it was deleted."""

    def _delete_pod(self) -> None:
        pod = self._any_pod()
        self.kubelet.delete_pod(pod, last_words=all(has_bytes(log) for log in pod.logs))


def make_kubelet(folder: Path, *, seed: int, max_files: int) -> Kubelet:
    """It rotates often. Its clock is behind ours, since every rotation of a second moves it on."""
    clock = Clock(time.time_ns() - 60 * 10**9, factor=1)
    settings = Settings(max_size=50_000, max_files=max_files, interval_s=0)
    return Kubelet(folder, seed=seed, clock=clock, settings=settings)


def config(folder: Path, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch) -> Part:
    return {
        "inputs": [tail(folder / "pods")],
        "filters": [metadata(kubernetes.url), {"type": "json"}],
        "outputs": [to_elasticsearch(elasticsearch.url), to_files(folder / "out")],
    }


def has_bytes(log: ContainerLog) -> bool:
    return log.path.exists() and log.path.stat().st_size > 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_of_a_nodes_life_is_lost_repeated_or_split(
    seed: int, tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    kubelet = make_kubelet(tmp_path / "pods", seed=seed, max_files=5)
    mirror = Mirror(kubelet, kubernetes)
    life = ObservableLife(kubelet, seed=seed, without=("clock_step", "brief_pod"))
    daemon = make_daemon(config(tmp_path, kubernetes, elasticsearch))
    await daemon.start()
    await daemon.ready()
    for _ in range(STEPS):
        life.step()
        mirror.sync()
        await asyncio.sleep(STEP_S)
        await has_found_all(daemon, kubelet)
    await is_complete(daemon, kubelet.account(), tmp_path, elasticsearch)


async def test_kills_between_rotations_cost_no_record_and_repeat_none(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    """Life goes on while there is no shipper; all files stay, renamed and compressed."""
    kubelet = make_kubelet(tmp_path / "pods", seed=3, max_files=1000)
    mirror = Mirror(kubelet, kubernetes)
    life = Life(kubelet, seed=3, without=("clock_step", "brief_pod", "delete_pod"))
    daemon = make_daemon(config(tmp_path, kubernetes, elasticsearch))
    rng = random.Random(3)
    for _ in range(KILLS):
        await daemon.start()
        await daemon.ready()
        for _ in range(rng.randrange(20, 80)):
            life.step()
            mirror.sync()
            await asyncio.sleep(STEP_S)
        await daemon.kill()
        for _ in range(rng.randrange(20)):
            life.step()
            mirror.sync()
    await daemon.start()
    await is_complete(daemon, kubelet.account(), tmp_path, elasticsearch)


async def is_complete(daemon: Daemon, account: Account, folder: Path, elasticsearch: FakeElasticsearch) -> None:
    await daemon.caught_up("es", "files", seen_bytes=account.bytes)
    assert await daemon.stop() == 0
    for documents, by_time in ((stored(elasticsearch), True), (filed(folder / "out"), False)):
        verdict = judge(account, documents, by_time=by_time)
        assert verdict.ok, f"{verdict}\n{daemon.log()}"
    await daemon.settled()


async def has_found_all(daemon: Daemon, kubelet: Kubelet) -> None:
    """Returns when every live file is open, so that its deletion cannot take anything away."""
    files = [log.path for log in kubelet.logs if has_bytes(log)]
    await daemon.until(lambda: daemon.holds(files))
