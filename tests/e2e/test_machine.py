"""The machine fails: its disk is full, read-only, slow, broken or gone, descriptors run out, the clock jumps.

Each time it is said in one sentence, and nothing is lost.
"""

import asyncio
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from shipper.checkpoint import FILE
from tests.e2e.configs import tail, to_elasticsearch, to_files, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.lines import Container
from tests.fakes import strace
from tests.fakes.archive import Archive
from tests.fakes.volume import volume
from tests.fakes.wall_clock import WallClock

DAY_S = 86_400
SLOW_FSYNC_S = 3_600  # longer than the test: none ends before the disk is quick again


@pytest.fixture
def cart(tmp_path: Path) -> Container:
    return Container(tmp_path / "pods")


@pytest.fixture
def daemon(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch, archive: Archive, cart: Container
) -> Daemon:
    """It has delivered nothing yet, and `cart` one line to do so."""
    cart.write("before")
    (tmp_path / "state").mkdir()
    return make_daemon(
        {
            "service": {"drain_timeout": "3s"},
            "inputs": [tail(tmp_path / "pods")],
            "outputs": [to_elasticsearch(elasticsearch.url), to_s3(archive, batch={"max_age": "100ms"})],
        }
    )


async def is_said(daemon: Daemon, path: str, *words: str) -> None:
    """Returns when a probe fails for a reason with these words."""
    deadline = daemon.deadline()
    while (answer := await daemon.get(path))[0] != 503 or not all(word in answer[1] for word in words):
        daemon.has_time(deadline, answer)
        await asyncio.sleep(0.02)


async def has_stored(daemon: Daemon, elasticsearch: FakeElasticsearch, documents: int) -> None:
    await daemon.until(lambda: len(elasticsearch.store.writes) == documents)


async def each_once(
    daemon: Daemon, elasticsearch: FakeElasticsearch, archive: Archive, cart: Container, messages: list[str]
) -> None:
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    assert await daemon.stop() == 0, daemon.log()
    assert Counter(d["message"] for d in elasticsearch.documents()) == Counter(messages)
    assert len(archive.documents()) == len(messages)
    assert all(count == 1 for count in elasticsearch.ids.values())


# -- the disk ---------------------------------------------------------------------------------------------------------


async def test_a_full_state_directory_is_said_and_costs_only_time(
    daemon: Daemon, cart: Container, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    with volume(daemon.state_dir, "4m") as disk:
        daemon.before = disk.inside
        await daemon.start()
        await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
        disk.fill()
        messages = [f"while it is full {i} {'x' * 500}" for i in range(2_000)]
        cart.write(*messages)
        await has_stored(daemon, elasticsearch, 1 + len(messages))
        await is_said(daemon, "/readyz", "the checkpoint cannot be written", "full")
        assert (await daemon.get("/healthz"))[0] == 200, "a new start would not help"
        (spooling,) = [o for o in (await daemon.json("/api/v1/status"))["outputs"] if o["name"] == "archive"]
        assert "No space left on device" in spooling["last_error"]
        assert "the checkpoint could not be written" in daemon.log()
        disk.free()
        await daemon.ready()
        await each_once(daemon, elasticsearch, archive, cart, ["before", *messages])


async def test_a_start_on_a_full_or_read_only_disk_says_so_and_loses_nothing(
    daemon: Daemon, cart: Container, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    with volume(daemon.state_dir, "4m") as disk:
        daemon.before = disk.inside
        disk.fill()
        full = await daemon.command("run", "CONFIG")
        assert full.code == 1
        assert full.err.splitlines()[-1].startswith(f"shipper: {daemon.state_dir}")
        assert "full" in full.err
        disk.free()
        await daemon.start()
        await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
        await daemon.kill()
        disk.fill()
        cart.write("while it is full")
        await daemon.start()  # with a state that is there it delivers, and only cannot save that
        await has_stored(daemon, elasticsearch, 2)
        await is_said(daemon, "/readyz", "the checkpoint cannot be written", "full")
        disk.free()
        await each_once(daemon, elasticsearch, archive, cart, ["before", "while it is full"])
        disk.make_read_only()
        read_only = await daemon.command("run", "CONFIG")
        assert (read_only.code, "Read-only file system" in read_only.err) == (1, True), read_only


async def test_a_slow_disk_delays_commits_and_nothing_else(
    daemon: Daemon, cart: Container, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    strace.needed()
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    messages = [f"line {number}" for number in range(10)]
    with strace.injected(daemon.process.pid, f"delay_enter={SLOW_FSYNC_S}s"):
        for number, message in enumerate(messages):
            cart.write(message)
            await has_stored(daemon, elasticsearch, 2 + number)
            assert (await daemon.get("/healthz"))[0] == 200
            await asyncio.sleep(0.2)  # not a wait: so that commits come between
    await each_once(daemon, elasticsearch, archive, cart, ["before", *messages])


async def test_a_disk_that_fails_an_fsync_is_said_and_a_new_start_loses_and_repeats_nothing(
    daemon: Daemon, cart: Container, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    strace.needed()
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    assert await daemon.stop() == 0
    await daemon.start()
    await daemon.ready()
    with strace.injected(daemon.process.pid, "error=EIO"):
        cart.write("while it fails")
        await has_stored(daemon, elasticsearch, 2)
        await is_said(daemon, "/readyz", "the disk failed to keep files of an output")
        cart.write("later")
        await has_stored(daemon, elasticsearch, 3)
        await daemon.kill()
    await daemon.start()
    await each_once(daemon, elasticsearch, archive, cart, ["before", "while it fails", "later"])


async def test_a_state_that_becomes_read_only_under_it_is_said_and_costs_only_time(
    daemon: Daemon, cart: Container, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    """As a file system does that the kernel remounts after an error: what is open may not be written to any more."""
    strace.needed()
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    with strace.injected(daemon.process.pid, "error=EROFS", calls="pwrite64,ftruncate"):
        messages = [f"while it is read-only {i}" for i in range(200)]
        for message in messages:
            cart.write(message)
        await has_stored(daemon, elasticsearch, 1 + len(messages))
        await is_said(daemon, "/readyz", "the checkpoint cannot be written")
        assert (await daemon.get("/healthz"))[0] == 200, "a new start would not help"
        failures = (await daemon.json("/api/v1/status"))["checkpoint"]["failures"]
        while (await daemon.json("/api/v1/status"))["checkpoint"]["failures"] < failures + 2:
            await asyncio.sleep(0.05)
        said = [line for line in daemon.log_lines("error") if "the checkpoint could not be written" in line["message"]]
        assert len(said) == 1, "it is tried again and again, and said once"
    await daemon.ready()
    assert "the checkpoint is written again" in daemon.log()
    cart.write("after")
    await each_once(daemon, elasticsearch, archive, cart, ["before", *messages, "after"])


async def test_a_state_that_is_deleted_under_it_is_said_and_a_new_start_loses_nothing(
    daemon: Daemon, cart: Container, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    shutil.rmtree(daemon.state_dir)
    cart.write("after")
    await has_stored(daemon, elasticsearch, 2)
    for probe in ("/healthz", "/readyz"):
        await is_said(daemon, probe, "was deleted or replaced while shipper ran")
    assert await daemon.stop() == 1
    assert "the last checkpoint could not be written" in daemon.log()
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    assert await daemon.stop() == 0
    assert [d["message"] for d in elasticsearch.documents()] == ["before", "after"]
    assert elasticsearch.statuses[409] + elasticsearch.found == 2
    await daemon.settled()


# -- the checkpoint ---------------------------------------------------------------------------------------------------


async def test_a_corrupt_checkpoint_is_set_aside_and_all_is_read_again_and_known_by_its_ids(
    daemon: Daemon, cart: Container, elasticsearch: FakeElasticsearch
) -> None:
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    assert await daemon.stop() == 0
    (daemon.state_dir / FILE).write_bytes(b"this is no database" * 1_000)
    cart.write("after")
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    (said,) = daemon.log_lines("error")
    assert said["message"].startswith("the checkpoint file is corrupt and was set aside")
    assert Path(said["set_aside_as"]).read_bytes().startswith(b"this is no database")
    assert [d["message"] for d in elasticsearch.documents()] == ["before", "after"]
    assert elasticsearch.statuses[409] + elasticsearch.found == 1
    assert await daemon.stop() == 0
    await daemon.settled()


async def test_the_state_of_a_newer_version_is_refused_and_left_as_it_is(daemon: Daemon, cart: Container) -> None:
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
    assert await daemon.stop() == 0
    with closing(sqlite3.connect(daemon.state_dir / FILE)) as db, db:
        db.execute("update meta set value = '99' where key = 'version'")
    before = (daemon.state_dir / FILE).read_bytes()
    refused = await daemon.command("run", "CONFIG")
    assert refused.code == 1
    assert "was written by a newer shipper (state version 99" in refused.err
    assert (daemon.state_dir / FILE).read_bytes() == before


# -- descriptors and the clock ----------------------------------------------------------------------------------------


async def test_with_few_descriptors_files_wait_for_their_turn(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch
) -> None:
    logs = [Container(tmp_path / "pods", pod=f"cart-{i}", uid=f"00000000-0000-0000-0000-{i:012}") for i in range(120)]
    for log in logs:
        log.write("one")
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods", rescan="1s")],
            "outputs": [to_elasticsearch(elasticsearch.url), to_files(tmp_path / "out")],
        }
    )
    daemon.before = ("prlimit", "--nofile=80:80")
    await daemon.start()
    for seen, message in enumerate(("two", "three"), 1):
        await has_stored(daemon, elasticsearch, seen * len(logs))
        for log in logs:
            log.write(message)
    await daemon.caught_up("es", "files", seen_bytes=sum(log.bytes for log in logs))
    assert "more than 40 log files would be open; some wait" in daemon.log()
    assert await daemon.stop() == 0
    assert Counter(d["message"] for d in elasticsearch.documents()) == {"one": 120, "two": 120, "three": 120}
    await daemon.settled()


async def test_a_wall_clock_that_jumps_changes_nothing(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch, archive: Archive, cart: Container
) -> None:
    clock = WallClock(tmp_path)
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods", rescan="1s")],
            "outputs": [to_elasticsearch(elasticsearch.url), to_s3(archive, batch={"max_age": "100ms"})],
        },
        **clock.environ,
    )
    await daemon.start()
    messages: list[str] = []
    for number, days in enumerate((0, 30, -30, 1, 0)):
        clock.set(days * DAY_S)
        for _ in range(5):
            messages.append(f"{number} {len(messages)}")
            cart.write(messages[-1])
        await daemon.caught_up("es", "archive", seen_bytes=cart.bytes)
        assert (await daemon.get("/healthz"))[0] == 200
    assert await daemon.metric("shipper_backlog_seconds") == 0
    assert await daemon.metric("shipper_lost_gaps_total") == 0
    await each_once(daemon, elasticsearch, archive, cart, messages)
    await daemon.settled()
