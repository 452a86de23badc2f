"""How soon a line is there. The promise is 250 ms until it is on its way; the bounds here allow for a busy machine."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import NODE, metadata, tail, to_elasticsearch
from tests.e2e.conftest import MakeDaemon
from tests.e2e.lines import UID, Container

BOUND_S = 2.0


async def test_the_first_line_of_a_new_pod_and_the_next_ones_arrive_soon(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    pods = tmp_path / "pods"
    Container(pods, pod="other-1", uid=UID.replace("1", "9")).write("what is there before")
    daemon = make_daemon(
        {
            "inputs": [tail(pods)],
            "filters": [metadata(kubernetes.url)],
            "outputs": [to_elasticsearch(elasticsearch.url)],
        }
    )
    await daemon.start()
    await daemon.until(lambda: len(elasticsearch.store.writes) == 1, within_s=15)
    kubernetes.add_pod("cart-1", namespace="shop", uid=UID, node=NODE, labels={"tier": "front"})
    cart = Container(pods)
    took = []
    for number in range(4):
        cart.write(f"line {number}")
        took.append(await daemon.until(has_one_more(elasticsearch), within_s=BOUND_S))
    print(f"first line after {took[0] * 1000:.0f} ms, the next after {[round(t * 1000) for t in took[1:]]} ms")
    documents = elasticsearch.documents()[1:]
    assert [d["message"] for d in documents] == [f"line {n}" for n in range(4)]
    assert all(d["kubernetes"]["labels"]["tier"] == "front" for d in documents)
    assert await daemon.stop() == 0
    await daemon.settled()


def has_one_more(elasticsearch: FakeElasticsearch) -> Callable[[], bool]:
    before = len(elasticsearch.store.writes)
    return lambda: len(elasticsearch.store.writes) > before
