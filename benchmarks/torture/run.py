"""One seed: a node, its destinations, the weather, and a daemon that is killed again and again; then the verdict."""

import asyncio
import gzip
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.torture.archive import Archive
from benchmarks.torture.daemon import Daemon, Ended
from benchmarks.torture.diary import Diary
from benchmarks.torture.judge import Arrival, Findings, Truth, check_ledger, dead_letters, judge
from benchmarks.torture.node import NAME, TorturedNode, crowd, is_archived
from benchmarks.torture.pace import STEP_S, Pace
from benchmarks.torture.weather import USER, Weather
from benchmarks.world.applications import REFUSED_FIELD
from benchmarks.world.check import ndjson_documents, split_documents
from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.ports import free_port
from benchmarks.world.s3_proxy import S3Proxy

OWNED_UP = ("times a file went away unseen, size unknown", "bytes are gone, delivered or not")
OUTPUTS = ("es", "archive", "files")
MIB = 2**20
MEMORY_LIMIT = 64 * MIB  # the default
MEMORY_BESIDE = 60 * 10**6  # bytes that a process may have beside it
QUIET_S = 90.0  # ours, at most: in which all that is on disk is to arrive
SETTLE_S = 0.25  # ours: how often deletions are looked after
SETTLED_S = 20.0  # ours, at most: until what was deleted is delivered, and the daemon may be killed again
COMMITTED_S = 3.0  # ours: after which it is durable what files there are, and which are gone
LIFE_S = (0.0, 180.0)  # simulated: how long it runs after its start
DEATH_S = (0.0, 90.0)  # ... and does not
GAP_S = (10.0, 120.0)  # ... between rows of ends
RELOAD_S = (60.0, 600.0)  # ... between two configurations


@dataclass
class Outcome:
    seed: int
    records: int = 0
    bytes: int = 0
    outputs: list[Findings] = field(default_factory=list)
    repeated_ids: int = 0  # stored twice under one id, in whatever index
    failure_store: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0
    is_ledger_right: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def varied(config: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Some of it is otherwise; what arrives is the same."""
    (tail,), (kubernetes, *filters), (es, archive, files) = config["inputs"], config["filters"], config["outputs"]
    return {
        "service": {**config["service"], "memory_limit": f"{rng.choice((48, MEMORY_LIMIT // MIB))}MiB"},
        "inputs": [{**tail, "name": rng.choice(("pods", "pods", "containers")), "rescan": rng.choice(("2s", "1s"))}],
        "filters": [{**kubernetes, "owner": rng.random() < 0.8}, *filters],
        "outputs": [
            {**es, "concurrency": rng.choice((1, 2, 2)), "compression": rng.choice(("gzip", "none"))},
            {**archive, "object": {"max_bytes": rng.choice(("64KiB", "256KiB", "256KiB")), "max_age": "1s"}},
            {**files, "batch": {"max_bytes": "256KiB", "max_age": rng.choice(("100ms", "50ms"))}},
        ],
    }


class Torture:
    """`endpoint`: of an S3 server, in which a bucket of that name is made. `keeps_unread`: as `TorturedNode` has it."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        pace: Pace,
        archive: Archive,
        keeps_unread: bool,
        crowded: bool,
        without: Collection[str] = (),
    ) -> None:
        self.outcome = Outcome(seed)
        self._folder, self._seed, self._pace, self._archive = folder, seed, pace, archive
        self._keeps_unread, self._crowded, self._without = keeps_unread, crowded, without
        self._rng = random.Random(f"ends {seed}")
        self._diary = Diary(folder / "diary.log")
        self._api = FakeKubernetesApi(bookmark_every_s=1.0)
        self._elasticsearch = FakeElasticsearch(seed=seed, numbers=frozenset({REFUSED_FIELD}))
        self._s3 = S3Proxy(archive.endpoint, seed=seed)

    async def run(self) -> Outcome:
        async with AsyncExitStack() as stack:
            for server in (self._api, self._elasticsearch, self._s3):
                await server.start()
                stack.push_async_callback(server.stop)
            self._node = TorturedNode(
                self._folder / "pods",
                self._api,
                self._pace,
                seed=self._seed,
                step_s=STEP_S,
                keeps_unread=self._keeps_unread,
                without=self._without,
                diary=self._diary,
            )
            if self._crowded:
                crowd(self._api, random.Random(self._seed), here=500, elsewhere=4500)
            secret, token = self._folder / "password", self._folder / "token"
            self._weather = Weather(
                self._pace,
                seed=self._seed,
                elasticsearch=self._elasticsearch,
                s3=self._s3,
                api=self._api,
                secret=secret,
                token=token,
                diary=self._diary,
            )
            self._first_config = self._config(free_port(), secret, token)
            self._daemon = Daemon(self._folder, self._first_config, port=self._port)
            stack.push_async_callback(self._daemon.kill)
            self._node.may_step_back = self._knows_all_files
            try:
                await self._storm()
            except* Ended as group:
                self.outcome.problems += [str(exc) for exc in group.exceptions]
            else:
                await self._judge()
            self._note_life()
        return self.outcome

    def _config(self, port: int, secret: Path, token: Path) -> dict[str, Any]:
        self._port = port
        retry = {"initial": "50ms", "max": "400ms"}
        rule = {"when": {"annotation": "shipper.io/archive", "equals": "true"}, "add": "archive.{namespace}.{pod}"}
        return {
            "service": {
                "state_dir": str(self._folder / "state"),
                "memory_limit": f"{MEMORY_LIMIT // MIB}MiB",
                "drain_timeout": "2s",
                "http": {"listen": f"127.0.0.1:{port}"},
            },
            "inputs": [{"type": "tail", "name": "pods", "path": f"{self._folder}/pods/*/*/*.log", "rescan": "2s"}],
            "filters": [
                {
                    "type": "kubernetes",
                    "node_name": NAME,
                    "wait": "200ms",
                    "api": {"url": self._api.url, "token_file": str(token)},
                },
                {"type": "json"},
                {"type": "tag", "rules": [rule]},
            ],
            "outputs": [
                {
                    "type": "elasticsearch",
                    "name": "es",
                    "match": "kube.*",
                    "hosts": [self._elasticsearch.url],
                    "index": "logs-{namespace}-default",
                    "auth": {"username": USER, "password": {"file": str(secret)}},
                    "timeout": "1s",
                    "retry": retry,
                    "batch": {"max_bytes": "256KiB"},
                },
                {
                    "type": "s3",
                    "name": "archive",
                    "match": "archive.*",
                    "bucket": self._archive.bucket,
                    "region": "us-east-1",
                    "endpoint": self._s3.url,
                    "auth": {"access_key": self._archive.user, "secret_key": self._archive.password},
                    "key": "logs/{namespace}/{node}-{id}.ndjson.gz",
                    "object": {"max_bytes": "256KiB", "max_age": "1s"},
                    "retry": retry,
                    "batch": {"max_bytes": "256KiB", "max_age": "200ms"},
                },
                {
                    "type": "file",
                    "name": "files",
                    "match": "kube.*",
                    "path": f"{self._folder}/out/{{namespace}}/{{pod}}/{{container}}.ndjson",
                    "batch": {"max_bytes": "256KiB", "max_age": "100ms"},
                },
            ],
        }

    # -- the storm ----------------------------------------------------------------------------------------------------

    async def _storm(self) -> None:
        """Raises Ended."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._daemon.sample_memory())
            deleting = group.create_task(self._look_after_deletions())
            storms = [group.create_task(each()) for each in (self._weather.blow, self._ends, self._reloads)]
            await self._daemon.start()
            for _ in range(self._pace.steps):
                self._node.step()
                self._daemon.check()
                await asyncio.sleep(STEP_S)
            for storm in storms:
                storm.cancel()
            await asyncio.gather(*storms, return_exceptions=True)
            await self._quiet()
            watching.cancel()
            deleting.cancel()

    async def _ends(self) -> None:
        """Endless: the daemon is killed or stopped, and comes back."""
        while True:
            await self._pace.wait(self._rng, *GAP_S)
            if self._keeps_unread:
                self._node.may_delete = False
                is_settled = await self._is_settled()
                self._diary.note(f"what was deleted is {'' if is_settled else 'not '}settled")
                if not is_settled:
                    self._node.may_delete = True
                    continue
            since_s = time.monotonic() - self._node.changed_at
            await asyncio.sleep(max(0.0, COMMITTED_S - since_s))
            for _ in range(self._rng.randrange(2, 7)):
                await self._end_and_begin()
            self._node.may_delete = True

    async def _reloads(self) -> None:
        """Endless: another configuration, which the next start may find too. No output is ever away: pods that are
        delivered to all others would be deleted meanwhile.
        """
        rng = random.Random(f"reloads {self._seed}")
        while True:
            await self._pace.wait(rng, *RELOAD_S)
            self._daemon.configure(varied(self._first_config, rng))
            if self._daemon.hang_up():
                self._weather.episodes["reload"] += 1
                self._diary.note("SIGHUP")

    async def _end_and_begin(self) -> None:
        is_kill = self._rng.random() < 0.7
        self._daemon.check()
        self._diary.note("SIGKILL" if is_kill else "SIGTERM")
        if is_kill:
            await self._daemon.kill()
        else:
            await self._daemon.stop()
        self._diary.note("it has ended")
        await self._pace.wait(self._rng, *DEATH_S)
        self._diary.note("it starts")
        await self._daemon.start()
        if self._rng.random() < 0.8:  # else it may be killed while it starts
            await self._daemon.ready()
        await self._pace.wait(self._rng, *LIFE_S)

    def _knows_all_files(self) -> bool:
        is_quiet = self._keeps_unread and self._node.may_delete and self._daemon.was_ready
        return is_quiet and self._daemon.holds(self._node.live_files)

    async def _is_settled(self) -> bool:
        """Whether all that was deleted is delivered, and that is durable."""
        try:
            async with asyncio.timeout(SETTLED_S):
                while self._node.deleted:
                    await asyncio.sleep(SETTLE_S)
                gone = {(log.account.namespace, log.account.pod) for log in self._node.containers}
                gone -= {(pod.plan.namespace, pod.plan.name) for pod in self._node.kubelet.pods}
                while True:
                    _, ledger = await self._daemon.audit()
                    left = [a for a in ledger["accounts"] if (a["namespace"], a["pod"]) in gone and a["pending"]]
                    if not left:
                        return True
        except TimeoutError:
            return False

    async def _look_after_deletions(self) -> None:
        """Endless."""
        while True:
            await asyncio.sleep(SETTLE_S)
            if not (self._node.doomed or self._node.deleted):
                continue
            accounts = await self._daemon.accounts() if await self._daemon.is_ready() else None
            if accounts is not None:
                self._node.delete_seen(accounts, self._daemon.holds)
                self._node.forget_delivered(accounts)

    # -- and after it -------------------------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """Nothing goes wrong any more: all that is on disk arrives."""
        self._diary.note("quiet")
        self._node.rest()
        self._node.may_delete = True
        await self._weather.calm()
        self._daemon.check()
        await self._daemon.bring_back()
        await self._daemon.ready()
        try:
            async with asyncio.timeout(QUIET_S):
                while left := await self._left():
                    self._daemon.check()
                    await asyncio.sleep(SETTLE_S)
        except TimeoutError:
            self.outcome.problems.append(f"not all was delivered {QUIET_S:g} s after the last fault: {left[:3]}")
        await self._daemon.stop()

    async def _left(self) -> list[Any]:
        """What is not delivered yet."""
        if self._node.doomed:
            return ["pods that are to be deleted"]
        accounts = await self._daemon.accounts()
        if accounts is None:
            return ["it does not answer"]
        waiting: list[Any] = [a for a in accounts if a["pending"] or a["spooled"]]
        seen = Counter[tuple[str, str, str, str]]()
        for a in accounts:
            seen[a["output"], a["namespace"], a["pod"], a["container"]] += a["seen"]
        for log in self._node.containers:
            account = log.account
            if account.bytes and log.folder.exists():
                unseen = [o for o in OUTPUTS if not seen[o, account.namespace, account.pod, account.container]]
                waiting += [f"{account.name}: not seen by {output}" for output in unseen]
        if self._keeps_unread:
            total = sum(log.account.bytes for log in self._node.containers)
            waiting += [f"{o}: seen fewer than {total}" for o in OUTPUTS if _total(seen, o) != total]
        return waiting

    def _note_life(self) -> None:
        outcome, account = self.outcome, self._node.kubelet.account()
        outcome.records, outcome.bytes = account.records, account.bytes
        outcome.ends, outcome.faults, outcome.events = self._daemon.ends, self._weather.faults, self._node.done
        outcome.peak_bytes = self._daemon.peak_bytes
        if outcome.peak_bytes > MEMORY_LIMIT + MEMORY_BESIDE:
            limit = (MEMORY_LIMIT + MEMORY_BESIDE) / MIB
            outcome.problems.append(f"it had {outcome.peak_bytes / MIB:.0f} MiB, and may have {limit:.0f}")

    async def _judge(self) -> None:
        outcome, account = self.outcome, self._node.kubelet.account()
        truth = Truth(account, self._node.containers)
        unreadable = {} if self._keeps_unread else self._node.kubelet.unreadable()
        unseen = self._node.kubelet.came_and_went(self._daemon.blind_spans())
        code, ledger = await self._daemon.audit()
        archived = account.where(is_archived)
        letters = dead_letters(self._folder / "state", "es")
        for arrival, wanted in (
            (Arrival("es", self._stored(), order=False, refuses=True, letters=letters), account),
            (Arrival("archive", self._archived(), order=False), archived),
            (Arrival("files", self._filed(), order=True), account),
        ):
            found, verdict = judge(truth, arrival, wanted, unreadable)
            sound = len(found.problems)
            check_ledger(
                found, truth, arrival, verdict, ledger["accounts"], may_lose=not self._keeps_unread, unseen=unseen
            )
            self._note(found, ledger_problems=len(found.problems) - sound)
        unexplained = [p for p in ledger["problems"] if self._keeps_unread or not p.endswith(OWNED_UP)]
        outcome.problems += [f"audit: {problem}" for problem in unexplained]
        outcome.is_ledger_right = outcome.is_ledger_right and not unexplained
        if self._keeps_unread and code:
            outcome.problems.append(f"audit ended with exit code {code}")

    def _note(self, found: Findings, *, ledger_problems: int) -> None:
        first = not self.outcome.outputs
        self.outcome.outputs.append(found)
        self.outcome.problems += found.problems
        self.outcome.is_ledger_right = (first or self.outcome.is_ledger_right) and not ledger_problems

    def _stored(self) -> list[tuple[bytes | None, bytes]]:
        """Documents of Elasticsearch, each id once, and what is in the failure store only."""
        store, outcome = self._elasticsearch.store, self.outcome
        places: dict[str, list[int]] = {}
        for number, write in enumerate(store.writes):
            places.setdefault(write.id, []).append(number)
        outcome.repeated_ids = len(store.writes) - len(places)
        if outcome.repeated_ids:
            examples = [numbers for numbers in places.values() if len(numbers) > 1][:3]
            told = ", ".join(f"{store.writes[n[0]].id} after {n[-1] - n[0]} others" for n in examples)
            outcome.problems.append(f"es: {outcome.repeated_ids} documents are twice, under one id: {told}")
        apart = {write.id: write.source for write in store.failure_store if write.id not in places}
        outcome.failure_store = len(apart)
        documents = {write.id: write.source for write in store.writes} | apart
        return [(identity.encode(), source) for identity, source in documents.items()]

    def _archived(self) -> list[tuple[bytes | None, bytes]]:
        return [document for packed in self._archive.objects() for document in split_documents(gzip.decompress(packed))]

    def _filed(self) -> list[tuple[bytes | None, bytes]]:
        return [d for path in sorted((self._folder / "out").rglob("*.ndjson")) for d in ndjson_documents(path)]


def _total(seen: Counter[tuple[str, str, str, str]], output: str) -> int:
    return sum(size for (name, *_), size in seen.items() if name == output)
