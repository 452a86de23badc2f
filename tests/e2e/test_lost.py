"""What the kubelet takes away before it could be read: counted to the byte, by container; or said to be unknown."""

import asyncio
import shutil
from pathlib import Path

import orjson
import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault
from shipper.checkpoint import Stored, read_beside
from tests.e2e import judge
from tests.e2e.configs import tail, to_elasticsearch, to_files
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.lines import Container

KIB = 1024
LINE = "x" * 200
WITH_LOSSES = 3


def pod(pods: Path, name: str, *, kib: int) -> Container:
    made = Container(pods, pod=name, uid=f"00000000-0000-0000-0000-{hash(name) % 10**12:012}")
    made.write(*(f"{name} {i} {LINE}" for i in range(kib * KIB // 250)))
    return made


def delete(container: Container) -> None:
    shutil.rmtree(container.path.parents[1])


def messages_of(container: Container) -> list[tuple[str, int]]:
    """Each with the bytes of its line."""
    lines = container.path.read_text().splitlines(keepends=True)
    return [(line.split(" ", 3)[3].rstrip("\n"), len(line)) for line in lines]


async def test_what_is_deleted_beyond_hold_deleted_is_counted_to_the_byte_by_container(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch
) -> None:
    pods = {name: pod(tmp_path / "pods", name, kib=1_000) for name in ("cart", "shop", "till")}
    daemon = make_daemon(
        {
            "service": {"hold_deleted": "150KiB", "drain_timeout": "2s"},
            "inputs": [tail(tmp_path / "pods")],
            "outputs": [
                to_elasticsearch(elasticsearch.url, batch={"max_bytes": "32KiB"}),
                to_files(tmp_path / "out"),
            ],
        }
    )
    port = elasticsearch.port
    await elasticsearch.stop()
    await daemon.start()
    await daemon.caught_up("files", seen_bytes=sum(each.bytes for each in pods.values()))
    written = {name: messages_of(each) for name, each in pods.items()}
    for each in pods.values():
        delete(each)
    deadline = daemon.deadline()
    await daemon.until_metric("shipper_lost_bytes_total", 1, name="es")
    assert await daemon.metric("shipper_lost_bytes_total", name="files") == 0
    while (left := await daemon.metric("shipper_backlog_bytes", name="es")) > 2_000 * KIB:
        daemon.has_time(deadline, left)
        await asyncio.sleep(0.05)
    await elasticsearch.start(port)
    await daemon.caught_up("es", "files", seen_bytes=sum(each.bytes for each in pods.values()))
    arrived = {document["message"] for document in elasticsearch.documents()}
    assert len(arrived) == len(elasticsearch.store.writes)
    accounts = {a["pod"]: a for a in await daemon.audit() if a["output"] == "es"}
    total = 0
    for name, lines in written.items():
        missing = sum(size for message, size in lines if message not in arrived)
        assert accounts[name]["lost"] == missing
        assert accounts[name]["reasons"] == ({"lost:hold_deleted": missing} if missing else {})
        assert await daemon.metric("shipper_lost_bytes_total", name="es", pod=name, reason="hold_deleted") == missing
        total += missing
    assert 0 < total < sum(each.bytes for each in pods.values()) - 150 * KIB
    assert await daemon.metric("shipper_lost_gaps_total") == 0
    assert await daemon.stop() == WITH_LOSSES


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
async def test_what_was_written_and_deleted_while_it_was_down_is_a_gap_and_fails_the_audit(
    tmp_path: Path, make_daemon: MakeDaemon, *, is_killed: bool
) -> None:
    cart, till = (pod(tmp_path / "pods", name, kib=1) for name in ("cart", "till"))
    daemon = make_daemon({"inputs": [tail(tmp_path / "pods")], "outputs": [to_files(tmp_path / "out")]})
    await daemon.start()
    await daemon.caught_up("files", seen_bytes=cart.bytes + till.bytes)
    await is_saved(daemon, 2)
    await (daemon.kill() if is_killed else daemon.stop())
    seen = cart.bytes
    cart.write("nobody will ever read this")
    delete(cart)
    await daemon.start()
    await daemon.until_metric("shipper_lost_gaps_total", 1, name="files", namespace="shop", pod="cart")
    assert await daemon.metric("shipper_lost_gaps_total") == 1
    assert await daemon.metric("shipper_lost_bytes_total") == 0, (
        "what was seen was delivered: no byte is known to be lost"
    )
    assert await daemon.stop() == 0
    result = await daemon.command("audit", "CONFIG")
    assert result.code == 1
    assert "shop/cart/app, output files: 1 times a file went away unseen, size unknown" in result.out
    (gone,) = [line.split() for line in result.out.splitlines() if line.split()[1:2] == ["cart"]]
    assert (gone[4], gone[-1]) == (str(seen), "NO")


async def test_of_what_was_deleted_after_a_kill_only_what_cannot_have_been_delivered_is_lost(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch
) -> None:
    """Elasticsearch has stored batches that it did not confirm; what the file output has, its cursors know exactly."""
    cart = pod(tmp_path / "pods", "cart", kib=1)
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "outputs": [to_elasticsearch(elasticsearch.url), to_files(tmp_path / "out")],
        }
    )
    await daemon.start()
    await daemon.caught_up("es", "files", seen_bytes=cart.bytes)
    elasticsearch.faults.script("applied_then_hang")
    elasticsearch.faults.chances = {Fault("hang"): 1.0}
    cart.write(*(f"more {i} {LINE}" for i in range(40_000)))
    await daemon.until(lambda: len(elasticsearch.faults.injected) > 1)
    await is_known(daemon, cart.bytes)
    await daemon.kill()
    stored = {document["message"] for document in elasticsearch.documents()}
    lines = messages_of(cart)
    elasticsearch.faults.chances = {}
    delete(cart)
    await daemon.start()
    await daemon.until_metric("shipper_lost_gaps_total", 1, name="es", pod="cart")
    assert await daemon.metric("shipper_lost_bytes_total", name="es") == 0
    told = {a["output"]: a for a in orjson.loads((await daemon.command("audit", "CONFIG", "--json")).out)["accounts"]}
    assert told["es"]["in_doubt"] + told["es"]["delivered"] == cart.bytes
    assert told["es"]["in_doubt"] > sum(size for message, size in lines if message not in stored) > 0
    filed = {orjson.loads(document)["message"] for _, document in judge.filed(tmp_path / "out")}
    missing = sum(size for message, size in lines if message not in filed)
    assert (told["files"]["lost"], told["files"]["in_doubt"]) == (missing, 0)
    await daemon.stop()
    result = await daemon.command("audit", "CONFIG")
    assert result.code == 1
    assert f"shop/cart/app, output es: {told['es']['in_doubt']} bytes are gone, delivered or not" in result.out


async def is_known(daemon: Daemon, size: int) -> None:
    """Returns when a next start would know of so many bytes."""
    deadline = daemon.deadline()
    while size > sum(row.size for row in read_beside(daemon.state_dir).generations.values()):
        daemon.has_time(deadline)
        await asyncio.sleep(0.05)


async def is_saved(daemon: Daemon, files: int) -> None:
    """Returns when a next start would find that all of so many files was delivered."""
    deadline = daemon.deadline()
    while (
        sum(_is_done(stored, id_) for stored in [read_beside(daemon.state_dir)] for id_ in stored.generations) < files
    ):
        daemon.has_time(deadline)
        await asyncio.sleep(0.05)


def _is_done(stored: Stored, generation: int) -> bool:
    size = stored.generations[generation].size
    return all(cursor.acked == size for cursor in stored.cursors[generation].values())
