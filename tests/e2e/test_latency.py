"""A line is on its way without waiting for what is there for bad days. How soon that is, `make bench` measures."""

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import NODE, metadata, tail, to_elasticsearch
from tests.e2e.conftest import MakeDaemon
from tests.e2e.lines import UID, Container

NEVER = "1h"  # longer than the test


async def test_the_first_line_of_a_new_pod_and_the_next_ones_arrive_soon(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    pods = tmp_path / "pods"
    other = UID.replace("1", "9")
    kubernetes.add_pod("other-1", namespace="shop", uid=other, node=NODE)
    Container(pods, pod="other-1", uid=other).write("what is there before")
    daemon = make_daemon(
        {
            "inputs": [tail(pods, rescan=NEVER)],
            "filters": [metadata(kubernetes.url, wait=NEVER)],
            "outputs": [to_elasticsearch(elasticsearch.url)],
        }
    )
    await daemon.start()
    await daemon.until(lambda: len(elasticsearch.store.writes) == 1)
    kubernetes.add_pod("cart-1", namespace="shop", uid=UID, node=NODE, labels={"tier": "front"})
    cart = Container(pods)
    took = []
    for number in range(4):
        has_come, since = has_one_more(elasticsearch), time.monotonic()
        cart.write(f"line {number}")
        await daemon.until(has_come)
        took.append(time.monotonic() - since)
    print(f"first line after {took[0] * 1000:.0f} ms, the next after {[round(t * 1000) for t in took[1:]]} ms")
    documents = elasticsearch.documents()[1:]
    assert [d["message"] for d in documents] == [f"line {n}" for n in range(4)]
    assert all(d["kubernetes"]["labels"]["tier"] == "front" for d in documents)
    assert await daemon.stop() == 0
    await daemon.settled()


def has_one_more(elasticsearch: FakeElasticsearch) -> Callable[[], bool]:
    before = len(elasticsearch.store.writes)
    return lambda: len(elasticsearch.store.writes) > before
