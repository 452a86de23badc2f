"""A running daemon is given another configuration: who goes on, who begins where, who leaves, and what is kept."""

import asyncio
import gzip
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from shipper.app import Daemon
from shipper.audit import Account
from shipper.checkpoint import read_beside
from shipper.config.loader import load
from shipper.inputs.tail.generation import Generation
from shipper.reload import NotNow, Outcome
from tests.pipeline.bench import line

PATIENCE_S = 100.0  # only a failure waits so long
QUICK = {"batch": {"max_age": "10ms"}, "retry": {"initial": "10ms", "max": "20ms"}}


class Site:
    """A folder of pods, a state, and a daemon in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "shipper.yaml"
        self.service: dict[str, Any] = {}
        self.inputs = [self.tail()]
        self.filters: list[Any] = []
        self.outputs = [self.file("a")]
        self._numbers: dict[str, int] = {}

    def tail(self, name: str = "pods", **values: Any) -> dict[str, Any]:
        return {"type": "tail", "name": name, "path": f"{self.folder}/pods/*/*/*.log", **values}

    def file(self, name: str, **values: Any) -> dict[str, Any]:
        return {"type": "file", "name": name, "path": f"{self.folder}/{name}.ndjson", **QUICK, **values}

    def configure(self, **parts: Any) -> None:
        vars(self).update(parts)
        service = {"state_dir": str(self.folder / "state"), "http": False, **self.service}
        whole = {"service": service, "inputs": self.inputs, "filters": self.filters, "outputs": self.outputs}
        self.path.write_text(json.dumps(whole))

    def write(self, *texts: str, pod: str = "cart") -> None:
        log = self.folder / "pods" / f"shop_{pod}_uid-{pod}" / "app" / "0.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            for text in texts:
                self._numbers[pod] = number = self._numbers.get(pod, 0) + 1
                file.write(line(number, text))

    def start(self) -> Daemon:
        self.configure()
        return Daemon(load(self.path), lambda: load(self.path))

    def messages(self, name: str) -> list[str]:
        out = self.folder / f"{name}.ndjson"
        return [json.loads(text)["message"] for text in out.read_text().splitlines()] if out.exists() else []


class Life:
    """One run of a daemon."""

    def __init__(self, site: Site) -> None:
        self.site, self.daemon = site, site.start()
        self._stop = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self.daemon.run(stop=self._stop))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert not self._task.done(), self._task.exception()
                await asyncio.sleep(0.005)

    async def arrived(self, name: str, *texts: str) -> None:
        """Returns when exactly these have, in this order."""
        try:
            await self.until(lambda: self.site.messages(name) == list(texts))
        except TimeoutError:
            raise AssertionError(f"{self.site.messages(name)} and not {texts}") from None

    async def reload(self, **parts: Any) -> Outcome:
        self.site.configure(**parts)
        async with asyncio.timeout(PATIENCE_S):
            return await self.daemon.reloader.reload()

    async def end(self) -> None:
        self._stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await self._task
        for generation in self.daemon.pipeline.generations():
            for cursor in generation.all_cursors():
                cursor.check()
        assert not [account for account in self.daemon.report.accounts() if not account.adds_up]
        self.daemon.close()

    def generation(self, pod: str = "cart") -> Generation:
        return next(g for g in self.daemon.pipeline.generations() if g.source.pod == pod)

    def account(self, output: str) -> Account:
        return next(a for a in self.daemon.report.accounts() if a.output == output)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
async def begin(site: Site) -> AsyncIterator[Callable[[], Life]]:
    lives: list[Life] = []

    def make() -> Life:
        lives.append(Life(site))
        return lives[-1]

    yield make
    for life in lives:
        if not life._task.done():
            await life.end()


Begin = Callable[[], Life]


# -- outputs ----------------------------------------------------------------------------------------------------------


async def test_an_added_output_begins_at_the_head_of_what_is_there(site: Site, begin: Begin) -> None:
    site.write("one", "two")
    life = begin()
    await life.arrived("a", "one", "two")
    outcome = await life.reload(outputs=[site.file("a"), site.file("b")])
    assert (outcome.result, outcome.changed) == ("done", ("outputs.b",))
    await life.arrived("b", "one", "two")
    site.write("three")
    await life.arrived("a", "one", "two", "three")
    await life.arrived("b", "one", "two", "three")


async def test_an_added_output_begins_at_the_end_where_read_from_says_so(site: Site, begin: Begin) -> None:
    site.write("one", "two")
    life = begin()
    await life.arrived("a", "one", "two")
    await life.reload(inputs=[site.tail(read_from="end")], outputs=[site.file("a"), site.file("b")])
    site.write("three")
    await life.arrived("b", "three")
    await life.arrived("a", "one", "two", "three")
    assert life.account("b").skipped == 2 * len(line(1, "one"))


async def test_a_removed_output_goes_on_where_it_was_when_it_comes_back(site: Site, begin: Begin) -> None:
    both = [site.file("a"), site.file("b")]
    site.outputs = both
    site.write("one")
    life = begin()
    await life.arrived("b", "one")
    await life.reload(outputs=[site.file("a")])
    site.write("two")
    await life.arrived("a", "one", "two")
    assert site.messages("b") == ["one"]
    (removed,) = life.daemon.report.status()["removed_outputs"]
    assert (removed["name"], removed["left_bytes"]) == ("b", len(line(2, "two")))
    assert life.account("b").is_abandoned
    await life.reload(outputs=both)
    await life.arrived("b", "one", "two")
    assert life.daemon.report.status()["removed_outputs"] == []


async def test_a_removed_output_is_kept_over_a_restart(site: Site, begin: Begin) -> None:
    both = [site.file("a"), site.file("b")]
    site.outputs = both
    site.write("one")
    life = begin()
    await life.arrived("b", "one")
    await life.reload(outputs=[site.file("a")])
    await life.end()
    site.write("two")
    life = begin()
    await life.arrived("a", "one", "two")
    assert life.account("b").is_abandoned
    await life.reload(outputs=both)
    await life.arrived("b", "one", "two")


async def test_an_output_that_did_not_change_is_not_touched(site: Site, begin: Begin) -> None:
    site.outputs = [site.file("a"), site.file("b")]
    site.write("one")
    life = begin()
    await life.arrived("a", "one")
    before = life.daemon.workers["a"]
    await life.reload(
        service={"fields": {"cluster": "prod"}, "memory_limit": "50MiB"},
        inputs=[site.tail(rescan="5s")],
        filters=[{"type": "json"}],
        outputs=[site.file("c"), site.file("a", match="kube.*"), site.file("b", batch={"max_bytes": "1MiB"})],
    )
    assert life.daemon.workers["a"] is before
    assert list(life.daemon.workers) == ["c", "a", "b"]
    await life.until(lambda: not life.daemon.pipeline.crew.leaving)
    assert sum(worker.limit_bytes for worker in life.daemon.workers.values()) <= 50 << 20
    site.write("two")
    await life.arrived("a", "one", "two")
    assert json.loads((site.folder / "a.ndjson").read_text().splitlines()[1])["cluster"] == "prod"


async def test_what_a_changed_output_could_not_deliver_is_delivered_by_its_successor(site: Site, begin: Begin) -> None:
    (site.folder / "wall").write_text("no folder")
    site.outputs = [site.file("a"), site.file("b", path=f"{site.folder}/wall/b.ndjson")]
    site.service = {"drain_timeout": "500ms"}
    site.write("one", "two")
    life = begin()
    await life.until(lambda: life.daemon.workers["b"].last_error)
    outcome = await life.reload(outputs=[site.file("a"), site.file("b")])
    assert outcome.changed == ("outputs.b",)
    site.write("three")
    await life.arrived("a", "one", "two", "three")
    await life.arrived("b", "one", "two", "three")


async def test_while_an_output_that_is_away_leaves_the_others_go_on(site: Site, begin: Begin) -> None:
    wall = site.folder / "wall"
    wall.write_text("no folder")
    site.outputs = [site.file("a"), site.file("b", path=f"{wall}/b.ndjson")]
    site.service = {"drain_timeout": "1h"}
    site.write("one")
    life = begin()
    await life.until(lambda: life.daemon.workers["b"].last_error)
    await life.reload(outputs=[site.file("a")])
    site.write("two")
    await life.arrived("a", "one", "two")
    assert [tenure.worker.name for tenure in life.daemon.pipeline.crew.leaving] == ["b"]
    wall.unlink()
    await life.until(lambda: not life.daemon.pipeline.crew.leaving)
    assert (wall / "b.ndjson").exists()


async def test_what_a_removed_output_could_not_deliver_waits_for_its_return(site: Site, begin: Begin) -> None:
    (site.folder / "wall").write_text("no folder")
    site.outputs = [site.file("a"), site.file("b", path=f"{site.folder}/wall/b.ndjson")]
    site.service = {"drain_timeout": "1s"}
    site.write("one")
    life = begin()
    await life.until(lambda: life.daemon.workers["b"].last_error)
    await life.reload(outputs=[site.file("a")])
    assert [o["name"] for o in life.daemon.report.status()["outputs"] if o["state"] == "leaving"] == ["b"]
    await life.until(lambda: not life.daemon.pipeline.crew.leaving)
    cursor = life.generation().parked["b"]
    assert (cursor.position, cursor.acked, len(cursor.segments)) == (0, 0, 0)
    await life.reload(outputs=[site.file("a"), site.file("b")])
    await life.arrived("b", "one")


async def test_several_reloads_one_upon_the_other_leave_the_last_one_in_force(site: Site, begin: Begin) -> None:
    (site.folder / "wall").write_text("no folder")
    stuck = site.file("b", path=f"{site.folder}/wall/b.ndjson")
    site.outputs = [site.file("a"), stuck]
    site.service = {"drain_timeout": "400ms"}
    site.write("one")
    life = begin()
    await life.until(lambda: life.daemon.workers["b"].last_error)
    for outputs in (
        [site.file("a"), {**stuck, "batch": {"max_bytes": "1MiB"}}],
        [site.file("a")],
        [site.file("a"), {**stuck, "batch": {"max_bytes": "2MiB"}}],
        [site.file("a"), site.file("b", rotate={"max_bytes": "1MiB"})],
    ):
        assert (await life.reload(outputs=outputs)).result == "done"
    await life.arrived("b", "one")
    await life.until(lambda: not life.daemon.pipeline.crew.leaving)
    site.write("two")
    await life.arrived("a", "one", "two")
    await life.arrived("b", "one", "two")


async def test_sigterm_while_an_output_leaves_loses_nothing(site: Site, begin: Begin) -> None:
    (site.folder / "wall").write_text("no folder")
    site.outputs = [site.file("a"), site.file("b", path=f"{site.folder}/wall/b.ndjson")]
    site.service = {"drain_timeout": "1s"}
    site.write("one")
    life = begin()
    await life.until(lambda: life.daemon.workers["b"].last_error)
    await life.reload(outputs=[site.file("a"), site.file("b")])
    await life.end()
    life = begin()
    await life.arrived("b", "one")
    assert site.messages("a") == ["one"]


async def test_an_output_that_cannot_be_started_changes_nothing(site: Site, begin: Begin) -> None:
    site.write("one")
    life = begin()
    await life.arrived("a", "one")
    before = life.daemon.config
    (site.folder / "ca.pem").write_text("this is no certificate\n")
    search = {"type": "elasticsearch", "hosts": ["https://127.0.0.1:1"], "index": "logs"}
    outcome = await life.reload(
        outputs=[site.file("c"), {**search, "tls": {"ca_file": str(site.folder / "ca.pem")}}],
        filters=[{"type": "json"}],
    )
    assert outcome.result == "refused"
    assert "output elasticsearch cannot be started: a certificate" in outcome.problems[0]
    assert life.daemon.config is before
    assert set(life.daemon.pipeline.journal.durables) == {"a"}
    site.write("two")
    await life.arrived("a", "one", "two")


# -- inputs and filters -----------------------------------------------------------------------------------------------


async def test_an_input_that_is_renamed_repeats_nothing(site: Site, begin: Begin) -> None:
    site.write("one")
    life = begin()
    await life.arrived("a", "one")
    await life.reload(inputs=[site.tail("containers")])
    site.write("two")
    site.write("other", pod="till")
    await life.until(lambda: len(site.messages("a")) == 3)
    assert sorted(site.messages("a")) == ["one", "other", "two"]
    assert life.generation().source.input == "containers"
    await life.end()
    site.configure(inputs=[site.tail("again")])
    life = begin()
    site.write("three")
    await life.until(lambda: len(site.messages("a")) == 4)
    assert life.generation().source.input == "again"


async def test_files_that_are_left_out_are_no_backlog_and_go_on_when_they_are_wanted_again(
    site: Site, begin: Begin
) -> None:
    site.write("one")
    site.write("till", pod="till")
    life = begin()
    await life.until(lambda: len(site.messages("a")) == 2)
    await life.reload(inputs=[site.tail(namespaces={"exclude": ["shop"]})])
    site.write("two")
    site.write("kiosk", pod="kiosk")
    assert life.generation().file is None
    assert life.daemon.report.backlog("a")[0] == 0
    assert life.generation().left_out_at is not None
    await life.reload(inputs=[site.tail()])
    await life.until(lambda: len(site.messages("a")) == 4)
    assert sorted(site.messages("a")) == ["kiosk", "one", "till", "two"]
    assert life.generation().left_out_at is None


async def test_a_removed_input_is_kept_over_a_restart(site: Site, begin: Begin) -> None:
    other = {"type": "tail", "name": "other", "path": f"{site.folder}/logs/*.log"}
    site.inputs = [site.tail(), other]
    site.write("one")
    life = begin()
    await life.arrived("a", "one")
    await life.reload(inputs=[other])
    await life.end()
    site.write("two")
    life = begin()
    await life.until(lambda: life.daemon.pipeline.is_reading)
    assert life.generation().left_out_at is not None
    assert life.daemon.report.backlog("a") == (0, 0.0)
    await life.reload(inputs=[site.tail(), other])
    await life.arrived("a", "one", "two")


async def test_a_filter_holds_from_the_next_record_on(site: Site, begin: Begin) -> None:
    site.write('{"level": "info"}')
    life = begin()
    await life.until(lambda: site.messages("a"))
    await life.reload(filters=[{"type": "drop", "when": {"pod": "cart"}}])
    site.write("dropped")
    await life.until(lambda: life.account("a").filtered)
    await life.reload(filters=[])
    site.write("kept")
    await life.until(lambda: len(site.messages("a")) == 2)
    assert site.messages("a")[1] == "kept"


async def test_a_rule_that_takes_a_container_away_parks_its_cursor(site: Site, begin: Begin) -> None:
    site.outputs = [site.file("a"), site.file("b")]
    site.write("one")
    life = begin()
    await life.arrived("b", "one")
    await life.reload(outputs=[site.file("a"), site.file("b", match="kube.other.*")])
    site.write("two")
    await life.arrived("a", "one", "two")
    assert "b" in life.generation().parked
    assert life.daemon.report.backlog("b") == (0, 0.0)
    await life.reload(outputs=[site.file("a"), site.file("b")])
    await life.arrived("b", "one", "two")


async def test_records_that_wait_for_metadata_go_on_when_nobody_asks_for_it_any_more(site: Site, begin: Begin) -> None:
    """No API server answers; the output's file is named by a label."""
    silent = {"type": "kubernetes", "node_name": "n", "api": {"url": "http://127.0.0.1:1"}, "wait": "0s"}
    site.filters = [silent]
    site.outputs = [site.file("a", path=f"{site.folder}/{{label:app}}.ndjson")]
    site.write("one")
    life = begin()
    await life.until(lambda: any(f["waits_for_metadata"] for f in life.daemon.report.status()["files"]))
    await life.reload(filters=[{**silent, "api": "off"}])
    await life.arrived("unknown", "one")
    await life.reload(filters=[])
    site.write("two")
    await life.arrived("unknown", "one", "two")


# -- history ----------------------------------------------------------------------------------------------------------


async def test_what_was_removed_is_forgotten_after_its_history(
    site: Site, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.outputs = [site.file("a"), site.file("b")]
    site.write("one")
    life = begin()
    await life.arrived("b", "one")
    await life.reload(service={"history": "1h"}, outputs=[site.file("a")])
    await life.until(lambda: not life.daemon.pipeline.crew.leaving)
    life.daemon.pipeline.tend()
    assert "b" in life.generation().parked
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    life.daemon.pipeline.tend()
    assert life.generation().parked == {}
    await life.daemon.pipeline.journal.committed()
    stored = read_beside(site.folder / "state")
    assert [set(cursors) for cursors in stored.cursors.values()] == [{"a"}]
    assert set(stored.rows) == {"a"}
    await life.reload(outputs=[site.file("a"), site.file("b", path=f"{site.folder}/c.ndjson")])
    await life.arrived("c", "one")


async def test_files_that_are_left_out_are_forgotten_after_their_history(
    site: Site, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("one")
    life = begin()
    await life.arrived("a", "one")
    await life.reload(service={"history": "1h"}, inputs=[site.tail(namespaces={"exclude": ["shop"]})])
    life.daemon.pipeline.tend()
    assert list(life.daemon.pipeline.generations())
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    life.daemon.pipeline.tend()
    assert not list(life.daemon.pipeline.generations())
    await life.daemon.pipeline.journal.committed()
    assert read_beside(site.folder / "state").generations == {}


# -- what is not taken over -------------------------------------------------------------------------------------------


async def test_what_needs_a_restart_is_said_and_left_as_it_was(site: Site, begin: Begin) -> None:
    life = begin()
    outcome = await life.reload(service={"http": {"listen": "127.0.0.1:1"}})
    assert outcome == Outcome(result="unchanged", needs_restart=("service.http",))
    outcome = await life.reload(service={"state_dir": "/elsewhere", "history": "1h"})
    assert outcome == Outcome(result="done", changed=("service.history",), needs_restart=("service.state_dir",))
    assert life.daemon.config.service.state_dir == str(site.folder / "state")


def refused(life: Life) -> float:
    return next(sample.value for sample in life.daemon.report.gauges() if sample.metric == "shipper_config_refused")


async def test_a_wrong_configuration_changes_nothing_and_says_every_problem(site: Site, begin: Begin) -> None:
    site.write("one")
    life = begin()
    await life.arrived("a", "one")
    before, hash_ = life.daemon.config, life.daemon.report.config_hash
    outcome = await life.reload(
        outputs=[{"type": "fiel"}, site.file("b", match="nothing.*")], inputs=[site.tail(pth=1)]
    )
    assert outcome.result == "refused"
    assert len(outcome.problems) >= 2
    assert all(problem.startswith(f"{site.path}:1:") for problem in outcome.problems)
    assert (life.daemon.config, life.daemon.report.config_hash) == (before, hash_)
    reload = life.daemon.report.status()["reload"]
    assert (reload["last"]["result"], reload["last_success_at"]) == ("refused", None)
    assert refused(life) == 1
    await life.reload(inputs=[site.tail()], outputs=[site.file("a")])
    assert refused(life) == 0


async def test_the_hash_in_force_follows(site: Site, begin: Begin) -> None:
    life = begin()
    before = life.daemon.report.config_hash
    await life.reload(filters=[{"type": "json"}])
    assert life.daemon.report.config_hash != before
    await life.reload(filters=[])
    assert life.daemon.report.config_hash == before
    assert life.daemon.report.status()["reload"]["last_success_at"] is not None


async def test_nothing_is_taken_over_once_the_daemon_stops(site: Site, begin: Begin) -> None:
    life = begin()
    await life.until(lambda: life.daemon.pipeline.is_reading)
    await life.end()
    with pytest.raises(NotNow, match="stopping"):
        await life.reload(outputs=[site.file("a"), site.file("b")])


async def test_once_reads_its_configuration_once(site: Site) -> None:
    site.write("one")
    daemon = site.start()
    try:
        await daemon.run(once=True)
        with pytest.raises(NotNow):
            await daemon.reloader.reload()
    finally:
        daemon.close()


# -- what torture has shown -------------------------------------------------------------------------------------------


async def test_a_renamed_input_knows_the_order_of_files_that_are_deleted(site: Site, begin: Begin) -> None:
    """No scan finds them any more: who came after whom must not be forgotten with the name."""
    (site.folder / "wall").write_text("no folder")
    site.outputs = [site.file("a", path=f"{site.folder}/wall/a.ndjson")]
    folder = site.folder / "pods" / "shop_cart_uid-cart" / "app"
    folder.mkdir(parents=True)
    (folder / "0.log.20261121-100000").write_bytes(line(1, "one") + line(2, "be", tag="P"))
    (folder / "0.log").write_bytes(line(3, "gun"))
    life = begin()
    await life.until(lambda: len(list(life.daemon.pipeline.generations())) == 2)
    shutil.rmtree(folder.parent)
    await life.until(lambda: all(g.is_deleted for g in life.daemon.pipeline.generations()))
    await life.reload(inputs=[site.tail("containers")], outputs=[site.file("a")])
    await life.arrived("a", "one", "begun")


async def test_a_file_stays_open_until_all_of_it_is_confirmed(site: Site, begin: Begin) -> None:
    """Whoever sends it now may be cut off, and its file deleted meanwhile."""
    (site.folder / "wall").write_text("no folder")
    site.outputs = [site.file("a", path=f"{site.folder}/wall/a.ndjson")]
    site.service = {"drain_timeout": "100ms"}
    folder = site.folder / "pods" / "shop_cart_uid-cart" / "app"
    folder.mkdir(parents=True)
    old = folder / "0.log.20261121-100000.gz"
    old.write_bytes(gzip.compress(line(1, "one")))
    (folder / "0.log").write_bytes(line(2, "two"))
    life = begin()
    await life.until(lambda: life.daemon.workers["a"].last_error)
    await life.until(lambda: not any(g.has_unread() for g in life.daemon.pipeline.generations()))
    os.utime(old, (1, 1))  # it is looked at again
    await life.daemon.pipeline.rescan()
    shutil.rmtree(folder.parent)
    await life.until(lambda: all(g.is_deleted for g in life.daemon.pipeline.generations()))
    await life.reload(outputs=[site.file("a")])
    await life.arrived("a", "one", "two")
    assert life.daemon.lost_bytes() == 0


async def test_a_file_that_was_closed_is_opened_again_for_what_is_to_be_read_again(site: Site, begin: Begin) -> None:
    (site.folder / "wall").write_text("no folder")
    site.outputs = [site.file("a", path=f"{site.folder}/wall/a.ndjson")]
    site.service = {"drain_timeout": "100ms"}
    site.write("one")
    life = begin()
    await life.until(lambda: life.daemon.workers["a"].last_error)
    life.daemon.pipeline.inputs[0].catalog._close(life.generation())  # as where too many are open
    await life.reload(outputs=[site.file("a")])
    await life.arrived("a", "one")
