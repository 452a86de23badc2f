"""A daemon under live load: its share of a core, its memory, requests a second, and how late records arrive.

The writer is a process of its own, and so is the sink. A record's latency is the time from its write, which stands in
its line, to the sink's answer for the request that carried it. Every document is checked afterwards.

A peer is held to the number of its documents only, and nobody says how late they were.
"""

import asyncio
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.backlog import tail
from benchmarks.kubernetes import serve_pods
from benchmarks.peers import Peer, make_peer
from benchmarks.process import Usage, usage
from benchmarks.subjects import Job, Shipper, environment_of
from benchmarks.world.account import Account
from benchmarks.world.check import Checker
from benchmarks.world.pace import Paced
from benchmarks.world.sink import Sink, start_sink
from shipper.document import time_ns

SETTLE_S = 5.0  # of load, before anything is measured
ARRIVE_S = 30.0  # longest wait for what was written
_TIME = re.compile(rb'"@timestamp":"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Load:
    """`rate`: records a second over all `files`; 0: nothing is written but one record in each, before the start."""

    files: int
    rate: float
    seconds: float  # of the window that is measured


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `cpu_share`: of one core, over the window. `fault` says why it is no result, if it is none."""

    cpu_share: float = 0.0
    rss_mb: float = 0.0
    peak_mb: float = 0.0
    requests_s: float = 0.0
    first_s: float = 0.0  # from the daemon's start to the first document
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    most_ms: float = 0.0
    latest_ms: float = 0.0  # how far the writer itself fell behind, at most
    checked: str = ""
    fault: str = ""


class LiveBench:
    """Runs the shipper under loads, one at a time."""

    def __init__(
        self, *, settle_s: float = SETTLE_S, wrap: Callable[[list[str]], list[str]] = lambda command: command
    ) -> None:
        """`wrap`: what is started in place of the daemon's own command, such as that under a profiler."""
        self._settle_s, self._wrap = settle_s, wrap

    async def run(self, load: Load, peer: str = "") -> Live:
        """Of the shipper, or of a peer by its name."""
        with tempfile.TemporaryDirectory(prefix="live-") as name:
            folder = Path(name)
            async with _writer(folder, load, load.seconds + self._settle_s + 1.0) as writer:
                account = Account.load(folder / "account.json")
                async with serve_pods(account, wanted=True) as api:
                    subject = make_peer(peer, api) if peer else Shipper(api, once=False)
                    with start_sink(None if peer else folder / "spill", compressed=subject.is_packed) as sink:
                        try:
                            return await self._measure(subject, folder, load, sink, writer)
                        except TimeoutError as exc:
                            return Live(fault=f"{exc}\n{tail(folder / 'log')}")

    async def _measure(
        self, subject: Shipper | Peer, folder: Path, load: Load, sink: Sink, writer: asyncio.subprocess.Process
    ) -> Live:
        (folder / "run").mkdir()
        command = self._wrap(subject.command(Job(folder / "pods", sink.port, "plain", folder / "run")))
        began_ns = time.time_ns()
        with (folder / "log").open("wb") as log:
            daemon = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment_of(subject))
        try:
            await _arrived(subject, Account.load(folder / "account.json"), sink, daemon)
            paced = Paced(0, 0.0, 0.0)
            if load.rate:
                assert writer.stdin is not None
                writer.stdin.write(b"go\n")
            window = await _watch(daemon.pid, sink, settle_s=self._settle_s, seconds=load.seconds)
            if load.rate:
                assert writer.stdout is not None
                paced = msgspec.json.decode(await writer.stdout.readline(), type=Paced)
            account = Account.load(folder / "account.json")
            await _arrived(subject, account, sink, daemon)
            daemon.send_signal(signal.SIGTERM)
            code = await daemon.wait()
        finally:
            if daemon.returncode is None:
                daemon.kill()
                await daemon.wait()
        if isinstance(subject, Peer):
            return _judge_peer(subject, account, sink, window, paced)
        result = _judge(account, sink, window, paced, began_ns=began_ns, code=code)
        return (
            msgspec.structs.replace(result, fault=f"{result.fault}\n{tail(folder / 'log')}") if result.fault else result
        )


@dataclass(frozen=True, slots=True)
class _Window:
    begin_ns: int
    end_ns: int
    before: Usage
    after: Usage
    requests: int

    @property
    def seconds(self) -> float:
        return max((self.end_ns - self.begin_ns) / 1e9, 1e-9)


async def _watch(pid: int, sink: Sink, *, settle_s: float, seconds: float) -> _Window:
    await asyncio.sleep(settle_s)
    begin_ns, before, requests = time.time_ns(), usage(pid), sink.counts().requests
    await asyncio.sleep(seconds)
    after, end_ns = usage(pid), time.time_ns()
    return _Window(begin_ns, end_ns, before, after, sink.counts().requests - requests)


async def _arrived(subject: Shipper | Peer, account: Account, sink: Sink, daemon: asyncio.subprocess.Process) -> None:
    """Raises TimeoutError with a sentence."""
    deadline, records = time.monotonic() + ARRIVE_S, subject.documents(account)
    while (arrived := sink.counts().newlines // subject.newlines) < records:
        if time.monotonic() > deadline or daemon.returncode is not None:
            raise TimeoutError(f"{arrived:,} of {records:,} records arrived within {ARRIVE_S:g} s")
        await asyncio.sleep(0.05)


def _judge(account: Account, sink: Sink, window: _Window, paced: Paced, *, began_ns: int, code: int) -> Live:
    checker = Checker(account, by_id=True, by_time=True, labels=True)
    checker.feed(sink.documents())
    verdict = checker.verdict()
    late = sorted(_latencies_ms(sink, window)) or [0.0]
    ok = verdict.ok and not verdict.repeated_ids and code == 0
    return Live(
        cpu_share=(window.after.cpu_s - window.before.cpu_s) / window.seconds,
        rss_mb=window.after.rss_mb,
        peak_mb=window.after.peak_mb,
        requests_s=window.requests / window.seconds,
        first_s=(min(bulk.answered_ns for bulk in sink.bulks()) - began_ns) / 1e9,
        p50_ms=statistics.median(late),
        p99_ms=late[int(len(late) * 0.99)],
        most_ms=late[-1],
        latest_ms=paced.latest_s * 1e3,
        checked=str(verdict),
        fault="" if ok else f"exit code {code}, {verdict.repeated_ids} repeated: {verdict}",
    )


def _judge_peer(peer: Peer, account: Account, sink: Sink, window: _Window, paced: Paced) -> Live:
    arrived, wanted = sink.counts().newlines // peer.newlines, peer.documents(account)
    return Live(
        cpu_share=(window.after.cpu_s - window.before.cpu_s) / window.seconds,
        rss_mb=window.after.rss_mb,
        peak_mb=window.after.peak_mb,
        requests_s=window.requests / window.seconds,
        latest_ms=paced.latest_s * 1e3,
        checked=f"{arrived:,} documents",
        fault="" if arrived == wanted else f"{arrived:,} documents, not {wanted:,}",
    )


def _latencies_ms(sink: Sink, window: _Window) -> Iterable[float]:
    for bulk in sink.bulks():
        for stamp in _TIME.findall(bulk.body):
            written_ns = time_ns(stamp)
            if window.begin_ns <= written_ns <= window.end_ns:
                yield (bulk.answered_ns - written_ns) / 1e6


@asynccontextmanager
async def _writer(folder: Path, load: Load, seconds: float) -> AsyncIterator[asyncio.subprocess.Process]:
    """Its files are there, with a record in each, and it waits."""
    options = [f"--files={load.files}", f"--rate={load.rate or 1}", f"--seconds={seconds}"]
    command = [sys.executable, "-m", "benchmarks.world.pace", str(folder), *options]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n", "the writer did not start"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
