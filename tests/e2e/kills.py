"""SIGKILL, hundreds of times, at chosen moments, while containers write and rotate: nothing missing, nothing twice.

    python -m tests.e2e.kills --kills 500 --seed 1

A process lives for fractions of a second. Its destinations are Elasticsearch, S3 (moto) and files; between two lives
the node goes on without it. What arrived is held against what was written.
"""

import argparse
import asyncio
import contextlib
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from moto.server import ThreadedMotoServer

from benchmarks.world.check import Verdict
from benchmarks.world.clock import Clock
from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault
from benchmarks.world.kubelet import Kubelet, Settings
from benchmarks.world.life import Life
from benchmarks.world.ports import free_port
from benchmarks.world.s3_proxy import S3Proxy
from shipper.checkpoint import FILE
from tests.e2e.configs import tail, to_elasticsearch, to_files, to_s3
from tests.e2e.daemon import PATIENCE_S, Daemon
from tests.e2e.judge import archived, filed_parts, ids, judge, manifest_agrees, stored
from tests.fakes.archive import Archive

Moment = Literal["start", "commit", "bulk", "upload", "file rotation", "log rotation", "drain", "any"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)

STEP_S = 0.03  # the pace of the node's life
START_S = 0.9  # of a process, until it reads
LONGEST_LIFE_S = 0.6  # after its first request, where no moment is waited for
RARE_S = 2.0  # so long is waited for a moment that need not come; then it is killed at that one
AFTER_S = 0.01  # at most so long after what was waited for
POLL_S = 0.001
SLOW = Fault("slow", delay_s=0.1)  # a request that a kill finds applied, but not answered
WITHOUT = ("clock_step", "brief_pod", "delete_pod")  # what takes away unread files


@dataclass(frozen=True)
class Outcome:
    kills: Mapping[str, int]  # by moment
    records: int
    elasticsearch: Verdict
    elasticsearch_ids: int  # different ones
    repeated: int  # sent again, or about to be, and there already
    archive: Verdict
    archive_ids: int
    objects: int
    files: Verdict

    @property
    def ok(self) -> bool:
        whole = all(verdict.ok for verdict in (self.elasticsearch, self.archive, self.files))
        return (
            whole
            and self.elasticsearch_ids == self.elasticsearch.documents
            and self.archive_ids == self.archive.documents
        )

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("", "records", "missing", "duplicate", "out of order", "split")]
        for name, verdict in (("elasticsearch", self.elasticsearch), ("archive", self.archive), ("files", self.files)):
            numbers = (verdict.documents, verdict.lost, verdict.duplicates, len(verdict.disorder), len(verdict.split))
            rows.append((name, *map(str, numbers)))
        lines = ["  ".join(cell.rjust(13) for cell in row) for row in rows]
        moments = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        return "\n".join(
            [
                f"{sum(self.kills.values())} kills ({moments}); {self.records:,} records were written",
                *lines,
                f"{self.repeated:,} documents were read again and known by their ids; {self.objects:,} objects",
            ]
        )


class Site:
    """A node, the daemon on it, and three destinations."""

    def __init__(
        self, folder: Path, archive: Archive, elasticsearch: FakeElasticsearch, proxy: S3Proxy, seed: int
    ) -> None:
        self.folder, self.archive, self.elasticsearch, self.proxy = folder, archive, elasticsearch, proxy
        self._rng = random.Random(seed)
        clock = Clock(time.time_ns() - 86_400 * 10**9, factor=1)  # behind ours: every rotation of a second moves it on
        settings = Settings(max_size=60_000, max_files=100_000, interval_s=0)
        self.kubelet = Kubelet(folder / "pods", seed=seed, clock=clock, settings=settings)
        self._life = Life(self.kubelet, seed=seed, max_pods=6, without=WITHOUT)
        self.daemon = Daemon(folder, self._config(), port=free_port(), environ={})

    def _config(self) -> Mapping[str, Any]:
        quick = {"max_bytes": "32KiB", "max_age": "100ms"}
        return {
            "service": {"drain_timeout": "5s"},
            "inputs": [tail(self.folder / "pods")],
            "filters": [{"type": "json"}],
            "outputs": [
                to_elasticsearch(self.elasticsearch.url, batch=quick),
                to_s3(
                    self.archive,
                    endpoint=self.proxy.url,
                    object={"max_bytes": "64KiB", "max_age": "500ms"},
                    batch=quick,
                ),
                to_files(self.folder / "out", rotate={"max_bytes": "128KiB", "keep": 300}, batch=quick),
            ],
        }

    async def kill(self, times: int) -> Outcome:
        kills = Counter[str]()
        self.elasticsearch.faults.chances = {SLOW: 1.0}
        for number in range(times):
            moment = MOMENTS[number] if number < len(MOMENTS) else self._rng.choice(MOMENTS)
            for _ in range(self._rng.randrange(20)):  # while there is no shipper
                self._life.step()
            await self.daemon.start()
            async with asyncio.TaskGroup() as group:
                life = group.create_task(self._live())
                kills[moment if await self._has_come(moment) else "any"] += 1
                await self.daemon.kill()
                life.cancel()
        return await self._finish(kills)

    async def _live(self) -> None:
        while True:
            self._life.step()
            await asyncio.sleep(STEP_S)

    # -- moments ------------------------------------------------------------------------------------------------------

    async def _has_come(self, moment: Moment) -> bool:
        """Returns in the midst of it; False where it did not come."""
        if moment == "start":
            await asyncio.sleep(self._rng.uniform(0, START_S))
            return True
        if not await self._changes(lambda: len(self.elasticsearch.requests)):
            raise AssertionError(f"it does nothing:\n{self.daemon.log()[-4000:]}")
        match moment:
            case "commit":
                came = await self._changes(lambda: _written(self.daemon.state_dir / f"{FILE}-wal"))
            case "bulk":
                came = await self._changes(lambda: len(self.elasticsearch.requests))
            case "upload":
                came = await self._changes(lambda: len(self.proxy.seen))
            case "file rotation":
                came = await self._changes(
                    lambda: len(list((self.folder / "out").rglob("*.ndjson.1"))), within_s=RARE_S
                )
            case "log rotation":
                self.kubelet.rotate(self._rng.choice([log for log in self.kubelet.logs if log.running]))
                came = True
            case "drain":
                self.daemon.process.terminate()
                came = True
            case _:
                await asyncio.sleep(self._rng.uniform(0, LONGEST_LIFE_S))
                return False
        await asyncio.sleep(self._rng.uniform(0, 0.2 if moment in ("drain", "log rotation") else AFTER_S))
        return came

    async def _changes(self, look: Callable[[], Any], *, within_s: float = PATIENCE_S) -> bool:
        before, deadline = look(), time.monotonic() + within_s
        while look() == before:
            if time.monotonic() > deadline or not self.daemon.is_running:
                return False
            await asyncio.sleep(POLL_S)
        return True

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _finish(self, kills: Counter[str]) -> Outcome:
        """Quiet time, in which everything can arrive."""
        self.elasticsearch.faults.chances = {}
        account = self.kubelet.account()
        await self.daemon.start()
        await self.daemon.caught_up("es", "archive", "files", seen_bytes=account.bytes, patience_s=300)
        assert await self.daemon.stop() == 0, self.daemon.log()[-4000:]
        manifest_agrees(self.archive, await self.daemon.settled())
        documents = {"es": list(stored(self.elasticsearch)), "archive": list(archived(self.archive))}
        return Outcome(
            kills,
            account.records,
            judge(account, documents["es"], by_time=True, labels=False),
            len(set(ids(documents["es"]))),
            self.elasticsearch.statuses[409] + self.elasticsearch.found,
            judge(account, documents["archive"], by_time=True, labels=False),
            len(set(ids(documents["archive"]))),
            len(self.archive.keys()),
            judge(account, filed_parts(self.folder / "out"), labels=False),
        )


def _written(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@contextlib.asynccontextmanager
async def site(folder: Path, archive: Archive, *, seed: int) -> AsyncIterator[Site]:
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    async with FakeElasticsearch(seed=seed) as elasticsearch:
        made = Site(folder, archive, elasticsearch, proxy, seed)
        try:
            yield made
        finally:
            await made.daemon.kill()
            await proxy.stop()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first node; each hundred kills have one of their own"
    )
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # and a traceback for each that a kill has cut
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    failed = 0
    for number in range(-(-options.kills // 100)):
        seed, kills = options.seed + number, min(100, options.kills - 100 * number)
        archive = Archive(f"http://{host}:{port}", f"kills-{seed}")
        archive.create_bucket()
        with tempfile.TemporaryDirectory() as folder:
            async with site(Path(folder).resolve(), archive, seed=seed) as node:
                outcome = await node.kill(kills)
        print(f"seed {seed}: {'ok' if outcome.ok else 'FAILED'}: {outcome}", flush=True)
        if not outcome.ok:
            print(outcome.elasticsearch, outcome.archive, outcome.files, sep="\n")
        failed += not outcome.ok
    moto.stop()
    return failed


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
