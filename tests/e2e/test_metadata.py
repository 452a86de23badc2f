"""What is known of pods, when, and what hangs on it: labels, exclusion, the way to the archive."""

from pathlib import Path

import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import NODE, archive_annotated, metadata, tail, to_elasticsearch, to_files
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.judge import filed
from tests.e2e.lines import UID, Container
from tests.e2e.nodes import ARCHIVED

OTHER_UID = UID.replace("1", "2")
UNAVAILABLE = 503


@pytest.fixture
def daemon(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> Daemon:
    """All to Elasticsearch, and what is annotated for it to the archive."""
    return make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "filters": [metadata(kubernetes.url, wait="200ms"), archive_annotated()],
            "outputs": [
                to_elasticsearch(elasticsearch.url, match="kube.*"),
                to_files(tmp_path / "out", name="archive", match="archive.*"),
            ],
        }
    )


async def test_without_the_api_and_a_snapshot_documents_carry_what_the_path_tells(
    tmp_path: Path, daemon: Daemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    await kubernetes.stop()
    Container(tmp_path / "pods").write("one", "two")
    await daemon.start()
    await daemon.until(lambda: len(elasticsearch.store.writes) == 2)
    for document in elasticsearch.documents():
        identity = document["kubernetes"]
        assert (identity["namespace_name"], identity["pod_name"], identity["pod_id"]) == ("shop", "cart-1", UID)
        assert identity["container_name"] == "app"
        assert "labels" not in identity
    assert await daemon.metric("shipper_backlog_bytes", name="archive") > 0, "who is archived is not known"
    assert await daemon.stop() == 0
    await daemon.settled(but_for=["archive"])


async def test_a_snapshot_serves_a_restart_without_the_api(
    tmp_path: Path, daemon: Daemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    kubernetes.add_pod("cart-1", namespace="shop", uid=UID, node=NODE, labels={"tier": "front"}, annotations=ARCHIVED)
    cart = Container(tmp_path / "pods")
    cart.write("one")
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    assert await daemon.stop() == 0
    await kubernetes.stop()
    cart.write("two")
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    assert await daemon.stop() == 0
    assert [(d["message"], d["kubernetes"]["labels"]["tier"]) for d in elasticsearch.documents()] == [
        ("one", "front"),
        ("two", "front"),
    ]
    assert len(list(filed(tmp_path / "out"))) == 2
    await daemon.settled()


async def test_an_excluded_pod_is_dropped_and_counted(
    tmp_path: Path, daemon: Daemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    excluded = {"shipper.io/exclude": "true"}
    kubernetes.add_pod("cart-1", namespace="shop", uid=UID, node=NODE, annotations=excluded)
    kubernetes.add_pod("mail-1", namespace="shop", uid=OTHER_UID, node=NODE)
    quiet, loud = Container(tmp_path / "pods"), Container(tmp_path / "pods", pod="mail-1", uid=OTHER_UID)
    quiet.write("one", "two", "three")
    loud.write("four")
    await daemon.start()
    await daemon.caught_up("es", seen_bytes=quiet.bytes + loud.bytes)
    assert await daemon.metric("shipper_filter_dropped_records_total", name="kubernetes", reason="excluded") == 3
    assert await daemon.stop() == 0
    assert [d["message"] for d in elasticsearch.documents()] == ["four"]
    accounts = await daemon.settled()
    assert sum(a["filtered"] for a in accounts if a["output"] == "es") == quiet.bytes


async def test_nothing_is_missing_from_the_archive_though_the_api_came_late(
    tmp_path: Path, daemon: Daemon, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch
) -> None:
    kubernetes.trouble.status = UNAVAILABLE
    kubernetes.add_pod("cart-1", namespace="shop", uid=UID, node=NODE, annotations=ARCHIVED)
    kubernetes.add_pod("mail-1", namespace="shop", uid=OTHER_UID, node=NODE)
    kept, other = Container(tmp_path / "pods"), Container(tmp_path / "pods", pod="mail-1", uid=OTHER_UID)
    kept.write(*(f"early {n}" for n in range(50)))
    other.write("mail")
    await daemon.start()
    await daemon.until(lambda: len(elasticsearch.store.writes) == 51)  # documents do not wait for the API
    assert list(filed(tmp_path / "out")) == []
    kept.write("while it is down")
    await daemon.until(lambda: len(elasticsearch.store.writes) == 52)
    kubernetes.trouble.status = 0
    await daemon.caught_up("es", "archive", seen_bytes=kept.bytes + other.bytes)
    assert await daemon.stop() == 0
    archived = list(filed(tmp_path / "out"))
    assert len(archived) == 51
    assert all(b'"pod_name":"cart-1"' in document for _, document in archived)
    assert len(elasticsearch.store.writes) == 52
    accounts = await daemon.settled()
    assert sum(a["unmatched"] for a in accounts if a["output"] == "archive") == other.bytes
