"""Another configuration while records flow: nothing is lost by it, nothing comes twice, and nobody waits."""

import asyncio
import contextlib
import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.generator import write_tree
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.life import Life
from benchmarks.world.ports import free_port
from benchmarks.world.s3_proxy import S3Proxy
from tests.e2e.configs import Part, metadata, tail, to_elasticsearch, to_files, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.judge import archived, filed, ids, judge, manifest_agrees, stored
from tests.e2e.lines import Container
from tests.e2e.nodes import Mirror, announce
from tests.e2e.test_live import make_kubelet
from tests.fakes.archive import Archive

RELOADS = 20
STEPS = 15  # of life, between two of them
STEP_S = 0.02
STALL_CPU_S = 1.0  # of the daemon's own time: what it waits for while an output leaves, test_takeover tells
FLAT_BYTES = 40 * 2**20  # beyond what each configuration took once; a client that stays is 4 to 16 MB a reload


class Site:
    """What the daemon's configurations are made of."""

    def __init__(self, folder: Path, api: FakeKubernetesApi, es: FakeElasticsearch, archive: Archive) -> None:
        self.folder, self.api, self.es, self.archive = folder, api, es, archive

    def config(self, **changes: Any) -> Part:
        """`es`, `files`, `s3`, `tail`, `kubernetes`, `service`: values that differ; `without`: outputs."""
        outputs = [
            to_elasticsearch(self.es.url, **changes.get("es", {})),
            to_files(self.folder / "out", **changes.get("files", {})),
            to_s3(self.archive, **changes.get("s3", {})),
        ]
        return {
            "service": changes.get("service", {}),
            "inputs": [tail(self.folder / "pods", **changes.get("tail", {}))],
            "filters": [metadata(self.api.url, **changes.get("kubernetes", {})), {"type": "json"}],
            "outputs": [o for o in outputs if o["name"] not in changes.get("without", ())],
        }

    def configs(self) -> list[Part]:
        return [
            self.config(),
            self.config(es={"concurrency": 1, "batch": {"max_bytes": "256KiB"}}),
            self.config(es={"compression": "gzip"}, service={"memory_limit": "40MiB"}),
            self.config(files={"batch": {"max_age": "50ms"}}, kubernetes={"annotations": True}),
            self.config(s3={"object": {"max_bytes": "64KiB", "max_age": "1s"}}),
            self.config(without=("archive",)),
            self.config(without=("files",), tail={"rescan": "5s"}),
            self.config(without=("es", "archive")),
            self.config(kubernetes={"owner": False}, tail={"exclude": ["/nowhere/*"], "max_record_bytes": "512KiB"}),
        ]


@pytest.fixture
def site(tmp_path: Path, kubernetes: FakeKubernetesApi, elasticsearch: FakeElasticsearch, archive: Archive) -> Site:
    return Site(tmp_path, kubernetes, elasticsearch, archive)


class Stalls:
    """The most CPU time that the daemon has taken while an output that is configured stood still, and pods wrote."""

    def __init__(self, site: Site, daemon: Daemon) -> None:
        self._site, self._daemon = site, daemon
        self.expected: set[str] = set()
        self.longest = {"es": 0.0, "files": 0.0}

    def _progress(self) -> dict[str, int]:
        files = sum(path.stat().st_size for path in (self._site.folder / "out").rglob("*.ndjson"))
        return {"es": len(self._site.es.store.writes), "files": files}

    async def watch(self) -> None:
        seen, since = self._progress(), dict.fromkeys(self.longest, self._daemon.cpu_s)
        while True:
            await asyncio.sleep(0.02)
            now, time_ = self._progress(), self._daemon.cpu_s
            for name, count in now.items():
                if count != seen[name] or name not in self.expected:
                    since[name] = time_
                self.longest[name] = max(self.longest[name], time_ - since[name])
            seen = now


async def test_twenty_reloads_under_load_cost_no_record_repeat_none_and_stop_nobody(
    site: Site, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    kubelet = make_kubelet(tmp_path / "pods", seed=11, max_files=1000)
    life = Life(kubelet, seed=11, without=("clock_step", "brief_pod", "delete_pod"))
    mirror = Mirror(kubelet, site.api)
    daemon = make_daemon(site.config())
    stalls = Stalls(site, daemon)
    await daemon.start()
    await daemon.ready()
    watch = asyncio.get_running_loop().create_task(stalls.watch())
    rng, configs = random.Random(11), site.configs()
    memory = []
    for config in [*configs, *rng.choices(configs, k=RELOADS - len(configs))]:
        await live(life, mirror)
        stalls.expected &= {output["name"] for output in config["outputs"]}
        assert await daemon.reloaded(config) in ("done", "unchanged")
        await live(life, mirror)
        stalls.expected = {output["name"] for output in config["outputs"]}
        memory.append(daemon.memory_bytes)
    watch.cancel()
    await daemon.reloaded(site.config())
    account = kubelet.account()
    await daemon.caught_up("es", "archive", "files", seen_bytes=account.bytes)
    assert await daemon.stop() == 0
    for documents, by_time in (
        (stored(site.es), True),
        (archived(site.archive), True),
        (filed(tmp_path / "out"), False),
    ):
        verdict = judge(account, documents, by_time=by_time)
        assert verdict.ok, f"{verdict}\n{daemon.log()}"
    found = ids(archived(site.archive))
    assert len(found) == len(set(found))
    manifest_agrees(site.archive, await daemon.settled())
    assert max(stalls.longest.values()) < STALL_CPU_S, stalls.longest
    assert max(memory) - max(memory[: len(configs)]) < FLAT_BYTES, memory


async def live(life: Life, mirror: Mirror) -> None:
    for _ in range(STEPS):
        life.step()
        mirror.sync()
        await asyncio.sleep(STEP_S)


async def test_whoever_knows_the_token_is_told_what_became_of_a_reload(
    site: Site, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("hunter2\n", encoding="utf-8")
    port = free_port()
    service = {"http": {"listen": f"127.0.0.1:{port}", "token": {"file": str(tmp_path / "token")}}}
    daemon = make_daemon(site.config(service=service))
    daemon.ask_at(port)
    cart = Container(tmp_path / "pods")
    cart.write("one")
    await daemon.start()
    await daemon.caught_up("files", seen_bytes=cart.bytes)
    before = await daemon.metric("shipper_config_hash")

    assert (await daemon.post("/api/v1/reload", token="hunter3"))[0] == 401
    assert await daemon.metric("shipper_http_refused_total", reason="unauthorized") == 1
    daemon.config.write_text(daemon.config.read_text("utf-8").replace("type: tail", "type: tial"), encoding="utf-8")
    status, said = await daemon.post("/api/v1/reload", token="hunter2")
    assert (status, said["result"]) == (422, "refused")
    assert [problem.partition(": ")[2] for problem in said["problems"]] == [
        'inputs[0].type: there is no input "tial"; did you mean tail?'
    ]
    assert await daemon.metric("shipper_config_hash") == before
    (line,) = daemon.log_lines("error")
    assert line["problems"] == said["problems"]

    daemon.configure(site.config(service={**service, "fields": {"cluster": "prod"}}, without=("archive",)))
    status, said = await daemon.post("/api/v1/reload", token="hunter2")
    assert (status, said["result"], said["changed"]) == (200, "done", ["service.fields", "outputs.archive"])
    assert await daemon.metric("shipper_config_hash") != before
    assert await daemon.metric("shipper_config_reloads_total", result="done") == 1
    assert await daemon.metric("shipper_config_reloads_total", result="refused") == 1
    cart.write("two")
    await daemon.caught_up("files", seen_bytes=cart.bytes)
    assert [json.loads(document).get("cluster") for _, document in filed(tmp_path / "out")] == [None, "prod"]
    assert "hunter2" not in daemon.log() + (await daemon.get("/api/v1/status"))[1]
    assert await daemon.stop() == 0
    await daemon.settled()


async def test_a_hangup_in_the_first_instant_ends_nothing(daemon_of_files: Daemon, tmp_path: Path) -> None:
    """It waits until there is somebody who reads the file again."""
    cart = Container(tmp_path / "pods")
    cart.write("one")
    await daemon_of_files.start()
    deadline = daemon_of_files.deadline()
    while not await daemon_of_files.metric("shipper_config_reloads_total"):
        daemon_of_files.has_time(deadline)
        with contextlib.suppress(ProcessLookupError):
            if is_blocked(daemon_of_files, signal.SIGHUP):  # else Python has not come to shipper's first line yet
                daemon_of_files.hang_up()
        await asyncio.sleep(0.01)
    await daemon_of_files.caught_up("files", seen_bytes=cart.bytes)
    assert await daemon_of_files.stop() == 0


def is_blocked(daemon: Daemon, number: int) -> bool:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii")
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigBlk:", "SigCgt:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


async def test_an_archive_that_is_away_is_exchanged_removed_and_back_with_each_record_once(
    site: Site, make_daemon: MakeDaemon, tmp_path: Path, archive: Archive
) -> None:
    """Its spool changes hands, and waits for its return."""
    account = write_tree(tmp_path, total_bytes=2**21, pods=4, seed=12)
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    await proxy.stop()
    service = {"drain_timeout": "500ms"}
    s3: Part = {"endpoint": proxy.url, "spool_limit": "2MiB"}
    daemon = make_daemon(site.config(service=service, s3=s3))
    await daemon.start()
    await daemon.until_metric("shipper_spool_bytes", 1)
    announce(site.api, account)
    for config in (
        site.config(service=service, s3={**s3, "object": {"max_bytes": "64KiB", "max_age": "1s"}}),
        site.config(service=service, without=("archive",)),
        site.config(service=service, s3=s3),
        site.config(service=service, without=("archive",)),
    ):
        assert await daemon.reloaded(config) == "done"
    await daemon.caught_up("es", "files", seen_bytes=account.bytes)
    await gone(daemon, "archive")
    abandoned = [a for a in (await daemon.json("/api/v1/audit"))["accounts"] if a["is_abandoned"]]
    assert sum(a["spooled"] for a in abandoned) > 0
    assert sum(a["delivered"] for a in abandoned) == 0
    await proxy.start()
    assert await daemon.reloaded(site.config(s3=s3)) == "done"
    await daemon.caught_up("es", "archive", "files", seen_bytes=account.bytes)
    assert await daemon.stop() == 0
    await proxy.stop()
    for documents, by_time in (
        (stored(site.es), True),
        (archived(archive), False),
        (filed(tmp_path / "out"), False),
    ):
        verdict = judge(account, documents, by_time=by_time, labels=False)
        assert verdict.ok, f"{verdict}\n{daemon.log()}"
    manifest_agrees(archive, await daemon.settled())


async def gone(daemon: Daemon, output: str) -> None:
    """Returns when nobody works for this output any more."""
    deadline = daemon.deadline()
    while output in {o["name"] for o in (await daemon.json("/api/v1/status"))["outputs"]}:
        daemon.has_time(deadline, output)
        await asyncio.sleep(0.05)
