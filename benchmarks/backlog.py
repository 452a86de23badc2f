"""Runs of subjects that ship one tree of log files to a sink: checked once, then measured in turn."""

import asyncio
import hashlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Cost
from benchmarks.results import Run
from benchmarks.subjects import Job, Subject, environment_of, is_archived
from benchmarks.world import applications, generator
from benchmarks.world.account import Account
from benchmarks.world.bucket import BucketServer, start_bucket
from benchmarks.world.check import Checker, Verdict
from benchmarks.world.sink import Sink, start_sink

NOTHING = Cost(1, 0.0, 0.0, 0.0)
STANDSTILL_S = 10.0  # a peer that delivers nothing for so long has delivered all that it will


class Delivered(NamedTuple):
    documents: int
    bytes: int  # of bulk bodies, decompressed
    sums: Mapping[str, tuple[int, int]] = {}  # by pod, where they are asked for: see benchmarks.world.sums


class Bench:
    """Runs subjects on one tree. `limit_s` bounds each run. `sums`: of each pod's documents, for `Delivered`."""

    def __init__(self, data: Path, account: Account, *, limit_s: float, sums: bool = False) -> None:
        self.pods = data / "pods"
        self.account = account
        self._limit_s = limit_s
        self._sums = sums

    async def check(self, subject: Subject, *, labels: bool) -> tuple[str, Delivered | None]:
        """One run of which every document is looked at. No `Delivered` where the verdict is bad."""
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            with self._servers(subject, folder, spill=folder / "spill") as (sink, bucket):
                cost = await self._run(subject, self._job(subject, sink, bucket, folder), sink)
                if isinstance(cost, str):
                    return cost, None
                verdict = await asyncio.to_thread(_judge, self.account, sink.documents(), labels=labels)
                if verdict.ok and bucket is not None:
                    wanted = self.account.where(lambda container: is_archived(container.labels))
                    verdict = await asyncio.to_thread(_judge, wanted, bucket.documents(), labels=labels)
                return str(verdict), self._delivered(subject, sink) if verdict.ok else None

    async def measure(
        self,
        subject: Subject,
        number: int,
        expected: Delivered | None,
        *,
        sums: Mapping[str, tuple[int, int]] | None = None,
    ) -> Run:
        """`expected`: what must have arrived; else only as many documents as there should be.

        `sums`: of the documents of each pod, where it is known what they must be.
        """
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            with self._servers(subject, folder, spill=None) as (sink, bucket):
                cost = await self._run(subject, self._job(subject, sink, bucket, folder), sink)
                arrived = self._delivered(subject, sink)
        if isinstance(cost, str):
            return Run(subject=subject.name, mode=subject.mode, round=number, cost=NOTHING, documents=0, fault=cost)
        fault, wanted = "", subject.documents(self.account)
        if arrived.documents != wanted or expected not in (None, arrived):
            fault = f"{arrived.documents:,} documents of {arrived.bytes:,} bytes, not {wanted:,}"
            fault += f" of {expected.bytes:,}" if expected else ""
        elif sums is not None and arrived.sums != sums:
            others = sum(arrived.sums.get(uid) != wanted for uid, wanted in sums.items())
            fault = f"{others} of {len(sums)} pods have other documents than those that were checked"
        return Run(
            subject=subject.name, mode=subject.mode, round=number, cost=cost, documents=arrived.documents, fault=fault
        )

    @contextmanager
    def _servers(
        self, subject: Subject, folder: Path, *, spill: Path | None
    ) -> Iterator[tuple[Sink, BucketServer | None]]:
        with ExitStack() as stack:
            sink = stack.enter_context(start_sink(spill, compressed=subject.is_packed, sums=self._sums))
            bucket = stack.enter_context(start_bucket(folder / "objects")) if subject.has_archive else None
            yield sink, bucket

    def _delivered(self, subject: Subject, sink: Sink) -> Delivered:
        return _delivered(subject, sink)._replace(sums=sink.sums() if self._sums else {})

    def _job(self, subject: Subject, sink: Sink, bucket: BucketServer | None, folder: Path) -> Job:
        return Job(self.pods, sink.port, subject.mode, folder, bucket.port if bucket is not None else 0)

    async def _run(self, subject: Subject, job: Job, sink: Sink) -> Cost | str:
        """What it cost, or what went wrong."""
        result, log = job.folder / "cost.json", job.folder / "log"
        command = [sys.executable, "-m", "benchmarks.measure", str(result), *subject.command(job)]
        began = time.monotonic()
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=output, start_new_session=True, env=environment_of(subject)
            )
            try:
                async with asyncio.timeout(self._limit_s):
                    if not subject.ends:
                        done = await self._standstill(subject, sink, process)
                        if process.returncode is not None:
                            return f"ended by itself\n{tail(log)}"
                        process.send_signal(signal.SIGTERM)
                    await process.wait()
            except TimeoutError:
                return f"not done after {self._limit_s:g} s\n{tail(log)}"
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        cost = Cost.load(result)
        if not subject.ends:
            return Cost(0, cost.cpu_s, done - began, cost.rss_mb)
        return cost if cost.code == 0 else f"exit code {cost.code}\n{tail(log)}"

    async def _standstill(self, subject: Subject, sink: Sink, process: asyncio.subprocess.Process) -> float:
        """Returns when all has arrived, or nothing more does: time.monotonic() of the last arrival."""
        wanted = subject.documents(self.account)
        arrived, since = -1, time.monotonic()
        while arrived < wanted and process.returncode is None:
            await asyncio.sleep(0.1)
            now = _delivered(subject, sink).documents
            if now != arrived:
                arrived, since = now, time.monotonic()
            elif time.monotonic() - since > STANDSTILL_S:
                break
        return since


def _judge(account: Account, documents: Iterator[tuple[bytes | None, bytes]], *, labels: bool) -> Verdict:
    checker = Checker(account, by_id=True, by_time=True, labels=labels)
    checker.feed(documents)
    return checker.verdict()


def _delivered(subject: Subject, sink: Sink) -> Delivered:
    counts = sink.counts()
    return Delivered(counts.newlines // subject.newlines, counts.bytes)


def tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def ensure_data(cache: Path, *, mib: int, pods: int, seed: int) -> tuple[Path, Account]:
    """Generated once for these parameters and this generator."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (applications, generator))
    folder = cache / f"{mib}mib-{pods}pods-seed{seed}-{hashlib.sha256(sources).hexdigest()[:8]}"
    if not (folder / "account.json").exists():
        print(f"generating {mib} MiB of logs in {folder}", flush=True)
        generator.write_tree(folder, total_bytes=mib * 2**20, pods=pods, seed=seed)
    return folder, Account.load(folder / "account.json")
