"""SIGKILL at random moments, and at chosen ones: after the restart nothing is missing, and nothing is there twice."""

import asyncio
import random
from pathlib import Path

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault
from benchmarks.world.generator import write_tree
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import metadata, tail, to_elasticsearch, to_files, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.judge import archived, filed, ids, judge, manifest_agrees, stored
from tests.e2e.kills import MOMENTS, site
from tests.e2e.nodes import announce
from tests.fakes.archive import Archive

KILLS = 10
LONGEST_LIFE_S = 0.6  # after the first request of a process
SLOW = Fault("slow", delay_s=0.1)  # a request that a kill finds applied, but not answered


async def test_ten_kills_cost_no_record_and_repeat_none(
    tmp_path: Path,
    make_daemon: MakeDaemon,
    kubernetes: FakeKubernetesApi,
    elasticsearch: FakeElasticsearch,
    archive: Archive,
) -> None:
    account = write_tree(tmp_path, total_bytes=24 * 2**20, pods=10, seed=1)
    announce(kubernetes, account)
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "filters": [metadata(kubernetes.url), {"type": "json"}],
            "outputs": [
                to_elasticsearch(elasticsearch.url, batch={"max_bytes": "256KiB"}),
                to_s3(archive),
                to_files(tmp_path / "out", batch={"max_bytes": "256KiB", "max_age": "100ms"}),
            ],
        }
    )
    elasticsearch.faults.chances = {SLOW: 1.0}
    unfinished = 0
    rng = random.Random(1)
    for _ in range(KILLS):
        await live_a_little(daemon, elasticsearch, rng)
        unfinished += len(elasticsearch.store.writes) < account.records
    assert unfinished > KILLS // 2, "it was done before it was killed: kill it sooner, or write more"
    elasticsearch.faults.chances = {}
    await daemon.start()
    await daemon.caught_up("es", "archive", "files", seen_bytes=account.bytes)
    assert await daemon.stop() == 0, daemon.log()
    repeated = elasticsearch.statuses[409] + elasticsearch.found
    assert repeated, "no request was repeated: the kills came at harmless moments"
    for documents, by_time in (
        (stored(elasticsearch), True),
        (archived(archive), True),
        (filed(tmp_path / "out"), False),
    ):
        verdict = judge(account, documents, by_time=by_time)
        assert verdict.ok, verdict
    for documents in (stored(elasticsearch), archived(archive)):
        found = ids(documents)
        assert len(found) == len(set(found))
    assert set(ids(stored(elasticsearch))) == set(ids(archived(archive)))
    manifest_agrees(archive, await daemon.settled())


async def test_kills_at_chosen_moments_of_a_nodes_life_cost_no_record_and_repeat_none(
    tmp_path: Path, archive: Archive
) -> None:
    """`make kills` does it 500 times."""
    async with site(tmp_path, archive, seed=1) as node:
        outcome = await node.kill(len(MOMENTS) + 1)
    assert outcome.ok, outcome
    assert outcome.repeated, "no request was repeated: the kills came at harmless moments"
    assert set(outcome.kills) > {"start", "commit", "bulk", "upload", "drain"}


async def live_a_little(daemon: Daemon, elasticsearch: FakeElasticsearch, rng: random.Random) -> None:
    """One process, killed some time after it has sent its first request."""
    before = len(elasticsearch.requests)
    await daemon.start()
    await daemon.until(lambda: len(elasticsearch.requests) > before)
    await asyncio.sleep(rng.uniform(0, LONGEST_LIFE_S))  # not a wait: the moment is what is tried
    await daemon.kill()


async def test_a_rollover_between_a_kill_and_the_restart_doubles_nothing(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch
) -> None:
    """What was stored, but not confirmed, is in an index by now that takes no documents any more."""
    account = write_tree(tmp_path, total_bytes=2**20, pods=3, seed=2)
    output = to_elasticsearch(elasticsearch.url, batch={"max_bytes": "128KiB"})
    daemon = make_daemon({"inputs": [tail(tmp_path / "pods")], "filters": [{"type": "json"}], "outputs": [output]})
    elasticsearch.faults.script(None, "applied_then_hang", "applied_then_hang")
    await daemon.start()
    await daemon.until(lambda: len(elasticsearch.faults.injected) == 2)
    await daemon.kill()
    unconfirmed = len(elasticsearch.store.writes)
    for name in list(elasticsearch.store.streams):
        elasticsearch.roll_over(name)
        elasticsearch.roll_over(name)
    await daemon.start()
    await daemon.caught_up("es", seen_bytes=account.bytes)
    assert await daemon.stop() == 0, daemon.log()
    assert unconfirmed > 100
    assert set(elasticsearch.ids.values()) == {1}
    verdict = judge(account, stored(elasticsearch), by_time=True, labels=False)
    assert verdict.ok, verdict
    await daemon.settled()
