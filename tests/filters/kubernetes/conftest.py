"""The fake API server, a filter that talks to it, and waiting without guessing how long."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.world.kubernetes_api import FakeKubernetesApi
from shipper.filters.base import Lookup, Metadata
from shipper.filters.kubernetes.config import KubernetesApiConfig, KubernetesConfig
from shipper.filters.kubernetes.filter import KubernetesFilter
from shipper.filters.kubernetes.pace import Pace
from shipper.metrics import Metrics
from shipper.record import Source
from shipper.tasks import TaskGuard

NODE = "node-1"
QUICK = Pace(  # to begin again; what is waited for comes on a busy machine, too
    connect_timeout_s=60.0,
    request_timeout_s=60.0,
    watch_silence_s=60.0,
    watch_lasts_s=(60.0, 60.0),
    initial_lasts_s=60.0,
    relist_jitter_s=0.01,
    retry_first_s=0.02,
    retry_max_s=0.05,
    settle_s=60.0,
    grace_s=60.0,
    question_gap_s=0.0,
    snapshot_every_s=0.02,
)
ASKS_SOON = replace(QUICK, grace_s=0.02)
LISTS_SOON = replace(QUICK, initial_lasts_s=0.2)
HAS_NO_PATIENCE = replace(QUICK, request_timeout_s=0.5)


def source_of(
    uid: str, pod: str, *, namespace: str = "default", container: str = "app", restart: int | None = 0
) -> Source:
    path = f"/var/log/pods/{namespace}_{pod}_{uid}/{container}/{restart}.log"
    return Source(input="pods", path=path, namespace=namespace, pod=pod, uid=uid, container=container, restart=restart)


async def until(condition: Callable[[], object], *, timeout_s: float = 100.0) -> None:
    """Returns as soon as it holds. Raises TimeoutError when it never does."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


class World:
    """A fake API server, and filters on it that run until the block is left."""

    def __init__(self, api: FakeKubernetesApi) -> None:
        self.api = api
        self.metrics = Metrics()

    @asynccontextmanager
    async def filter(
        self, *, pace: Pace = QUICK, state_dir: Path | None = None, token_file: str | None = None, **config: Any
    ) -> AsyncIterator[KubernetesFilter]:
        config = {"node_name": NODE, "api": KubernetesApiConfig(url=self.api.url, token_file=token_file), **config}
        made = KubernetesFilter(KubernetesConfig(**config), self.metrics, pace=pace)
        await made.start(str(state_dir) if state_dir else None)
        try:
            async with TaskGuard() as guard:
                guard.start(made.run, name="filter", endless=True)
                yield made
                guard.cancel()
        finally:
            await made.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    api = FakeKubernetesApi(bookmark_every_s=0.05)
    await api.start()
    yield World(api)
    await api.stop()


async def known(kubernetes: KubernetesFilter, source: Source) -> Metadata:
    """The answer, as soon as it is one."""
    await until(lambda: kubernetes.lookup(source) is not Lookup.UNKNOWN)
    answer = kubernetes.lookup(source)
    assert isinstance(answer, Metadata)
    return answer
