"""The power fails: disks as they may be found then, and the daemon started again on each.

    python -m tests.e2e.power_loss --disks 200 --seed 1

The daemon runs under strace, is killed and stopped and goes on. What it did to its state and to its files is then
replayed up to a moment, what was not fsynced is dropped (all of it, or any part), and the daemon is started on what is
left, beside destinations that hold what they held at that moment.
"""

import argparse
import asyncio
import contextlib
import functools
import gzip
import itertools
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Self

import orjson
from aiohttp import web

from benchmarks.world.check import split_documents
from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault
from benchmarks.world.elasticsearch_store import Store, Write
from benchmarks.world.generator import write_tree
from benchmarks.world.ports import free_port
from shipper import checkpoint
from shipper.audit import accounts
from shipper.audit import verdict as verdict_of_ledger
from shipper.commands import DONE, WITH_LOSSES
from shipper.dead_letters import DeadLetters
from tests.e2e.configs import tail, to_elasticsearch, to_files
from tests.e2e.daemon import PATIENCE_S, Daemon
from tests.e2e.judge import ids, judge
from tests.e2e.lines import Container
from tests.e2e.promises import Acked, Promises, went_back
from tests.fakes import strace
from tests.fakes.lossy_disk import LOSSES, Disk, File, Loss

STATE, OUT = "state", "out"  # what may be lost; the log files are the node's, and taken for safe
FEED_S = 0.05
FEEDS = 50  # in one life
LAST_FEEDS = 10  # of them, when an object is there: so that whoever is slow has got somewhere, and is at it
LIVES = ("kill", "stop", "kill")
POISON = 40  # records, of which Elasticsearch refuses each second one
NOTES = 300  # lines of a file that is no container's: its ids are made of a random number
SLOW = Fault("slow", delay_s=0.1)


class Put(NamedTuple):
    at: float  # epoch, seconds
    key: str
    body: bytes


class Bucket:
    """An S3 of its own, with times: as much of it as an output of small objects needs."""

    def __init__(self) -> None:
        self.puts: list[Put] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**30)
        app.router.add_put("/bucket/{key:.+}", self._put)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _put(self, request: web.Request) -> web.Response:
        body, key = await request.read(), request.match_info["key"]
        if key.startswith("manifest/"):  # written anew with each object that it lists
            return web.Response(headers={"ETag": '"0"'})
        if key in {put.key for put in self.puts}:
            return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
        self.puts.append(Put(time.time(), key, body))
        return web.Response(headers={"ETag": '"0"'})

    def lines(self) -> list[bytes]:
        return [line for put in self.puts for line in gzip.decompress(put.body).splitlines()]


class Stored(list[Write]):
    """What Elasticsearch stores, with the times of it."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def append(self, write: Write) -> None:
        self.times.append(time.time())
        super().append(write)


class Moment(NamedTuple):
    """After `calls` of the recorded calls, at that time."""

    calls: int
    at: float


@dataclass(frozen=True)
class Recording:
    """What happened until the power failed, as far as anybody outside of the daemon's memory can know."""

    folder: Path
    calls: list[strace.Call]
    moments: list[Moment]  # after each fsync
    writes: list[tuple[float, Write]]
    puts: list[Put]
    vault: Mapping[int, Path]  # by number of a file: keeps its inode, which the state knows

    def broken_promises(self, losses: Sequence[Loss], rng: random.Random, scratch: Path) -> Iterator[str]:
        """After each fsync, and for each loss: what the state that is found then promises in vain.

        A commit counts from the fsync that follows SQLite's of its log: the first of all is one of the folder.
        """
        disk = Disk(self.folder, OUT)
        replay = strace.Replay(disk, names=(STATE, OUT))
        inodes = {number: path.stat().st_ino for number, path in self.vault.items()}
        promises = Promises(self.folder / STATE, scratch, inodes)
        durable: Acked = {}
        visible: Acked = {}
        for number, call in enumerate(self.calls, 1):
            synced = replay.do(call)
            if synced is None:
                continue
            durable = {**durable, **visible}
            for loss in losses:
                found = disk.after_loss(rng, loss)
                promises.look(found)
                for sentence in [*promises.broken(found), *went_back(durable, promises.acked())]:
                    yield f"after call {number}, {loss} being lost: {sentence}"
            if synced.name == f"{checkpoint.FILE}-wal":
                promises.look(disk.after_loss(rng, "nothing"))
                visible = promises.acked()

    def disk(self, moment: Moment) -> Disk:
        return replayed(self.folder, self.calls[: moment.calls])

    def some(self, rng: random.Random, count: int) -> list[tuple[Moment, Loss]]:
        """Moments after fsyncs, and as many at any time."""
        found: list[tuple[Moment, Loss]] = []
        for number in range(count):
            at = rng.randrange(1, len(self.calls))
            moment = Moment(at, self.calls[at - 1].ended) if number % 2 else rng.choice(self.moments)
            found.append((moment, LOSSES[number // 2 % len(LOSSES)]))
        return found


class Room:
    """The daemon between its log files and its destinations, all in `folder`."""

    def __init__(self, folder: Path, elasticsearch: FakeElasticsearch, bucket: Bucket) -> None:
        self.folder, self.elasticsearch, self.bucket = folder, elasticsearch, bucket
        self.staged = folder / "staged"
        self.account = write_tree(self.staged, total_bytes=1_500_000, pods=5, seed=7)
        poisoned = Container(self.staged / "pods", namespace="poison", pod="poison-1")
        poisoned.write(*(orjson.dumps({"n": f"no number {i}" if i % 2 else i}).decode() for i in range(POISON)))
        (self.staged / "notes").mkdir()
        (folder / OUT).mkdir()  # as a volume that is mounted
        (self.staged / "notes" / "notes.txt").write_text("".join(f"note {i}\n" for i in range(NOTES)))
        self.daemon = Daemon(folder, self._config(), port=free_port(), environ={})
        self._fill([], [])

    def _config(self) -> Mapping[str, Any]:
        return {
            "inputs": [
                tail(self.folder / "pods"),
                {"type": "tail", "name": "notes", "path": f"{self.folder}/notes/*.txt", "format": "text"},
            ],
            "filters": [{"type": "json"}],
            "outputs": [
                to_elasticsearch(self.elasticsearch.url, batch={"max_bytes": "64KiB"}),
                {
                    "type": "s3",
                    "name": "archive",
                    "bucket": "bucket",
                    "region": "us-east-1",
                    "endpoint": self.bucket.url,
                    "auth": {"access_key": "key", "secret_key": "secret"},
                    "key": "logs/{namespace}/{node}-{id}.ndjson.gz",
                    "object": {"max_bytes": "64KiB", "max_age": "1s"},
                    "batch": {"max_bytes": "64KiB", "max_age": "100ms"},
                },
                to_files(self.folder / OUT, rotate={"max_bytes": "150KiB", "keep": 1000}),
            ],
        }

    def _fill(self, writes: Iterable[tuple[float, Write]], puts: Iterable[Put]) -> None:
        """The destinations hold this, and no more."""
        store = self.elasticsearch.store = Store()
        store.writes = Stored()
        store.stream("logs-poison-default").numbers = frozenset({"n"})
        for _, write in writes:
            store.stream(write.index).backing[-1][write.id] = write.source
            store.writes.append(write)
        self.bucket.puts = list(puts)

    # -- until the power fails ----------------------------------------------------------------------------------------

    async def record(self) -> Recording:
        """Lines come while it runs; it is killed and stopped in between."""
        self.elasticsearch.faults.chances = {SLOW: 1.0}
        feeds = self._feeds(random.Random(7), len(LIVES) * FEEDS)
        calls: list[strace.Call] = []
        for number, end in enumerate(LIVES):
            output = self.folder / f"{number}.strace"
            self.daemon.before = strace.command(output)
            await self.daemon.start()
            puts = len(self.bucket.puts)
            await self._feed(itertools.islice(feeds, FEEDS - LAST_FEEDS))
            await self.daemon.until(lambda puts=puts: len(self.bucket.puts) > puts)  # type: ignore[misc]
            await self._feed(itertools.islice(feeds, LAST_FEEDS))
            await (self.daemon.kill() if end == "kill" else self.daemon.stop())
            async with asyncio.timeout(PATIENCE_S):
                while not strace.has_ended(output):
                    await asyncio.sleep(0.01)
            calls += _in_effect(self.folder, calls, strace.calls(output))
        self.daemon.before = ()
        self.elasticsearch.faults.chances = {}
        writes = self.elasticsearch.store.writes
        assert isinstance(writes, Stored)
        vault, moments = _keep_inodes(self.folder, calls), _moments(self.folder, calls)
        return Recording(
            self.folder, calls, moments, list(zip(writes.times, writes, strict=True)), list(self.bucket.puts), vault
        )

    async def _feed(self, feeds: Iterable[Callable[[], None]]) -> None:
        for feed in feeds:
            feed()
            await asyncio.sleep(FEED_S)

    def _feeds(self, rng: random.Random, count: int) -> Iterator[Callable[[], None]]:
        """Each writes some more of every log file, and may end within a line."""
        files = [path for path in self.staged.rglob("*") if path.suffix in (".log", ".txt")]
        contents = {path: path.read_bytes() for path in files}
        cuts = {
            path: [0, *sorted(rng.randrange(len(data)) for _ in range(count - 1)), len(data)]
            for path, data in contents.items()
        }

        def feed(number: int) -> None:
            for path, data in contents.items():
                target = self.folder / path.relative_to(self.staged)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("ab") as file:
                    file.write(data[cuts[path][number] : cuts[path][number + 1]])

        return (functools.partial(feed, number) for number in range(count))

    # -- and after that -----------------------------------------------------------------------------------------------

    async def restart(self, recording: Recording, moment: Moment, loss: Loss, rng: random.Random) -> None:
        """The daemon on what is left of its disk; what it makes of it must be complete."""
        _rebuild(recording, recording.disk(moment).after_loss(rng, loss))
        writes = [(at, write) for at, write in recording.writes if at <= moment.at]
        self._fill(writes, [put for put in recording.puts if put.at <= moment.at])
        self.daemon.log_file.unlink(missing_ok=True)
        code = await self.daemon.once()
        assert code in (DONE, WITH_LOSSES), self.daemon.log()
        self._judge()

    def _judge(self) -> None:
        stored: list[tuple[bytes | None, bytes]] = [
            (write.id.encode(), write.source) for write in self.elasticsearch.store.writes
        ]
        archived = list(split_documents(b"\n".join(self.bucket.lines())))
        paths = sorted(path for path in (self.folder / OUT).rglob("*.ndjson*") if path.is_file())
        filed = list(split_documents(b"".join(path.read_bytes() for path in paths)))
        for documents in (stored, archived, filed):
            verdict = judge(self.account, [d for d in documents if _is_of_pods(d[1])], by_time=True, labels=False)
            assert verdict.ok, verdict
            notes = Counter(orjson.loads(d)["message"] for _, d in documents if b'"kubernetes":' not in d)
            assert notes == Counter(f"note {i}" for i in range(NOTES))
        for documents in (stored, archived):
            found = ids(documents)
            assert len(found) == len(set(found))
        refused, taken = _numbers(letters(self.folder / STATE)), _numbers(d for _, d in stored)
        assert Counter(map(str, taken)) == Counter(str(i) for i in range(0, POISON, 2))
        assert Counter(map(str, refused)) == Counter(f"no number {i}" for i in range(1, POISON, 2)), sorted(refused)
        for documents in (archived, filed):
            assert len(_numbers(d for _, d in documents)) == POISON
        state = checkpoint.read_beside(self.folder / STATE)
        found_accounts = accounts((g, state.cursors[g.id].values()) for g in state.generations.values())
        assert verdict_of_ledger(found_accounts) == []
        assert [a for a in found_accounts if a.lost or a.pending or a.spooled] == []


def letters(state_dir: Path) -> list[bytes]:
    store = DeadLetters.open_beside(state_dir)
    try:
        return [letter.document for letter in store.select(limit=10_000)]
    finally:
        store.close()


def _is_of_pods(document: bytes) -> bool:
    return b'"kubernetes":' in document and b'"namespace_name":"poison"' not in document


def _numbers(documents: Iterable[bytes]) -> list[Any]:
    return [orjson.loads(d)["n"] for d in documents if b'"namespace_name":"poison"' in d]


# -- from calls to disks ----------------------------------------------------------------------------------------------


def replayed(folder: Path, calls: Iterable[strace.Call]) -> Disk:
    disk = Disk(folder, OUT)
    replay = strace.Replay(disk, names=(STATE, OUT))
    for call in calls:
        replay.do(call)
    return disk


def _in_effect(folder: Path, before: list[strace.Call], calls: list[strace.Call]) -> list[strace.Call]:
    """With those of the calls that a kill interrupted which have had their effect; the replay must be what is there."""
    done = [call for call in calls if call.ended < float("inf")]
    cut = [call._replace(ended=done[-1].ended) for call in calls if call.ended == float("inf")]
    for count in range(len(cut) + 1):
        for some in itertools.combinations(cut, count):
            candidate = [*done, *some]
            if is_real(replayed(folder, [*before, *candidate])):
                return candidate
    last = [(call.name, [argument[:200] for argument in call.arguments]) for call in cut]
    raise AssertionError(f"what was traced is not what is on the disk; it was killed in {last}")


def is_real(disk: Disk) -> bool:
    """Whether the disk holds what is below its root in truth."""
    files = {path: bytes(file.now) for path, file in disk.files().items()}
    real = [path for top in (STATE, OUT) for path in Path(disk.root / top).rglob("*") if path.is_file()]
    return files == {path: path.read_bytes() for path in real if not path.name.endswith("-shm")}


def _moments(folder: Path, calls: list[strace.Call]) -> list[Moment]:
    replay = strace.Replay(Disk(folder, OUT), names=(STATE, OUT))
    return [Moment(n, call.ended) for n, call in enumerate(calls, 1) if replay.do(call) is not None]


def _keep_inodes(folder: Path, calls: list[strace.Call]) -> dict[int, Path]:
    vault = folder / "vault"
    vault.mkdir()
    kept = {}
    for path, file in replayed(folder, calls).files().items():
        kept[file.number] = vault / str(file.number)
        os.link(path, kept[file.number])
    return kept


def _rebuild(recording: Recording, found: Mapping[PurePath, tuple[File, bytes] | None]) -> None:
    """What was found is what is there; files have the inodes that they had."""
    for top in (STATE, OUT):
        shutil.rmtree(recording.folder / top, ignore_errors=True)
    for pure, node in found.items():
        path = Path(pure)
        if node is None:
            path.mkdir()
            continue
        file, content = node
        kept = recording.vault.get(file.number, path)
        kept.write_bytes(content)
        if kept != path:
            os.link(kept, path)


@contextlib.asynccontextmanager
async def room(folder: Path) -> AsyncIterator[Room]:
    async with FakeElasticsearch() as elasticsearch, Bucket() as bucket:
        made = Room(folder, elasticsearch, bucket)
        try:
            yield made
        finally:
            await made.daemon.kill()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        async with room(Path(folder).resolve()) as site:
            recording = await site.record()
            print(f"{len(recording.calls):,} calls, {len(recording.moments)} fsyncs, {len(recording.puts)} objects")
            with tempfile.TemporaryDirectory() as scratch:
                broken = list(recording.broken_promises(LOSSES, rng, Path(scratch)))
            print(
                f"{len(recording.moments) * len(LOSSES):,} disks looked at: {len(broken)} promises broken",
                *broken[:10],
                sep="\n",
            )
            done = Counter[str]()
            for moment, loss in recording.some(rng, options.disks):
                try:
                    await site.restart(recording, moment, loss, rng)
                except AssertionError as exc:
                    print(f"FAILED after call {moment.calls}, lost: {loss}\n{exc}")
                    done["failed"] += 1
                done[loss] += 1
            print(dict(done))


if __name__ == "__main__":
    asyncio.run(main())
