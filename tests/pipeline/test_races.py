"""Rotations between any two looks at a folder, kills between any two steps: no record is lost, split or there twice.

What runs in threads runs at once here, and in between, where others may act, so does a kubelet, as a seed will have it.
"""

import asyncio
import itertools
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks.world.check import Checker, Documents, Verdict
from benchmarks.world.clock import Clock
from benchmarks.world.kubelet import Kubelet, Settings
from benchmarks.world.life import Life
from shipper.inputs.tail import discovery, head
from shipper.inputs.tail.memory import COARSEST_S, Memory, Stamp, stamp_of
from shipper.ledger import DELIVERED
from shipper.pipeline import pump
from shipper.pipeline.jobs import Job
from tests.fakes import clock
from tests.pipeline.bench import PLAIN, FakeOutput
from tests.pipeline.test_pipeline import Site

T = TypeVar("T")

STEPS = 250
ACTIONS = {
    "live": 20,
    "scan": 12,
    "look": 8,
    "read": 16,
    "deliver_es": 8,
    "deliver_files": 8,
    "commit": 4,
    "pass": 3,
    "kill": 1,
}
WITHOUT = ("clock_step", "brief_pod", "delete_pod", "stops_inside_a_record")  # what may cost records, or split them
_ID = re.compile(rb'"_id":"([^"]*)"')


class Race:
    """A kubelet and a shipper, whose steps interleave. Nothing of it takes time, but for the kubelet's clock."""

    def __init__(self, folder: Path, seed: int, *, is_believing: bool) -> None:
        self.random, self.is_believing = random.Random(seed), is_believing
        choose = self.random.choice
        settings = Settings(
            max_size=choose((3000, 20000)), max_files=1000, interval_s=0, reuse_inodes=choose((True, False))
        )
        self.kubelet = Kubelet(folder / "pods", seed=seed, clock=Clock(factor=1), settings=settings)
        self.life = Life(
            self.kubelet, seed=seed, max_pods=choose((1, 2, 5)), burst=choose((3, 10, 50)), without=WITHOUT
        )
        self.site = Site(folder)
        self.chance = choose((0.02, 0.1, 0.3))  # that the kubelet acts, at each point where it may
        self.left = 0  # times that it still may during this step: else a folder would never be at rest
        self.by_id: list[bytes] = []  # what has arrived in Elasticsearch
        self.in_files: list[tuple[str, bytes]] = []
        self.committed = 0  # of these: the rest is cut off after a kill

    # -- the shipper --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        es, files = FakeOutput("es"), FakeOutput("files", PLAIN, sent=self.in_files)
        self.es = es
        self.pipeline = self.site.pipeline(es, files)
        self.pipeline.pump._clock = clock.now
        self.tail = self.pipeline.inputs[0]
        if self.is_believing:
            self.believe()
        self.known = set[int]()
        self.senders = [self.group.create_task(w.run_sender()) for w in self.pipeline.workers.values()]

    def believe(self) -> None:
        """What folders held, from the second time on, as if hours lay between any two looks."""
        hours = itertools.count(step=COARSEST_S + 1)
        self.tail.scanner._memory = Memory(clock=lambda: float(next(hours)), stamp_of=_exact_stamp_of)

    async def scan(self) -> None:
        await self.tail.rescan()
        for generation in self.pipeline.generations():
            if generation.id not in self.known:
                self.known.add(generation.id)
                generation.seen_at = clock.now()

    def look(self) -> None:
        seen = [generation for generation in self.pipeline.generations() if generation.seen is not None]
        for generation in self.random.sample(seen, min(len(seen), 3)):
            self.tail.catalog.look(generation)

    async def read(self) -> None:
        while self.pipeline.pump.waiting() and await self.pipeline.pump._read_ahead():
            pass

    async def deliver(self, output: str) -> None:
        worker = self.pipeline.workers[output]
        worker.seal()
        await worker.idle()

    async def commit(self) -> None:
        here = len(self.in_files)
        assert await self.pipeline.journal.commit()
        self.committed = here

    def end(self) -> None:
        self.by_id += self.es.documents
        for sender in self.senders:
            sender.cancel()
        for generation in self.pipeline.generations():
            generation.close()
        self.site.checkpoint.close()

    def kill(self) -> None:
        """What was on its way may have arrived."""
        worker = self.pipeline.workers["es"]
        worker.seal()
        if self.random.random() < 0.7:
            self.by_id += [document for batch in worker._sealed for document in batch.documents()]
        del self.in_files[self.committed :]
        self.end()

    # -- the race -----------------------------------------------------------------------------------------------------

    def meanwhile(self) -> None:
        """To be called wherever others may act."""
        if self.left and self.random.random() < self.chance:
            self.left -= 1
            self.live(self.random.choice((1, 1, 2, 4)))

    def live(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.life.step()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as self.group:
            await self._run()

    async def _run(self) -> None:
        self.live(20)
        self.start()
        await self.scan()
        for action in self.random.choices(list(ACTIONS), weights=list(ACTIONS.values()), k=STEPS):
            self.left = self.random.choice((0, 1, 3, 5))
            await self.act(action)
        self.left = 0
        self.life.rest()
        for _ in range(200):
            await self.scan()
            await self.read()
            await self.deliver("es")
            await self.deliver("files")
            await self.commit()
            if all(generation.is_done() for generation in self.pipeline.generations()):
                break
            await asyncio.sleep(1)
        self.end()

    async def act(self, action: str) -> None:
        match action.split("_"):
            case ["live"]:
                self.live()
            case ["scan"]:
                await self.scan()
            case ["look"]:
                self.look()
            case ["read"]:
                await self.read()
            case ["deliver", output]:
                await self.deliver(output)
            case ["commit"]:
                await self.commit()
            case ["pass"]:
                await asyncio.sleep(self.random.choice((0.05, 0.2, 0.5)))
            case ["kill"]:
                self.kill()
                self.live(self.random.choice((0, 0, 2, 10)))
                self.start()
                await self.scan()

    def verdicts(self) -> list[Verdict]:
        by_id = {_id(document): document.partition(b"\n")[2] for document in self.by_id}
        return [
            judge(self.kubelet, [(None, document) for document in by_id.values()], by_time=True),
            judge(self.kubelet, [(None, document) for _, document in self.in_files]),
        ]


def judge(kubelet: Kubelet, documents: Documents, *, by_time: bool = False) -> Verdict:
    checker = Checker(kubelet.account(), by_time=by_time)
    checker.feed(documents)
    return checker.verdict()


def _exact_stamp_of(folder: str) -> Stamp | None:
    """The kernel's is of some milliseconds, in which much happens here."""
    stamp = stamp_of(folder)
    if stamp is None:
        return None
    return b"%b %x" % (stamp, hash(tuple(sorted((e.name, e.inode()) for e in os.scandir(folder)))))


def _id(document: bytes) -> bytes:
    found = _ID.search(document)
    assert found is not None
    return found[1]


def with_race(race: Race, function: Callable[..., T]) -> Callable[..., T]:
    def raced(*arguments: Any) -> T:
        race.meanwhile()
        return function(*arguments)

    return raced


async def _at_once(function: Callable[..., T], *arguments: Any) -> T:
    return function(*arguments)


async def _read_at_once(_: pump.Pump, function: Callable[[list[Job]], int], jobs: list[Job]) -> int:
    return function(jobs)


@pytest.mark.parametrize("is_believing", [False, True])
@pytest.mark.parametrize("seed", [1, 3, 5, 15, 20, 21, 23, 25, 27, 40, 41, 48])  # each has met a wrong one
def test_no_rotation_comes_at_a_wrong_moment(
    seed: int, is_believing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    race = Race(tmp_path, seed, is_believing=is_believing)
    monkeypatch.setattr(asyncio, "to_thread", _at_once)
    monkeypatch.setattr(pump.Pump, "_in_thread", _read_at_once)
    scanner = discovery.Scanner
    for owner, name in ((scanner, "_look"), (scanner, "_entries"), (Memory, "stands"), (head.Opened, "_open")):
        monkeypatch.setattr(owner, name, with_race(race, getattr(owner, name)))
    clock.run(race.run())
    for verdict in race.verdicts():
        assert verdict.ok, verdict
    fates = {fate for g in race.pipeline.generations() for cursor in g.cursors.values() for fate in cursor.fates}
    assert fates == {DELIVERED}
