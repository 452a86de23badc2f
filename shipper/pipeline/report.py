"""What the pipeline says of itself: gauges, health, status, audit. Read from its state when asked, and kept nowhere."""

import contextlib
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from shipper.audit import Account, accounts
from shipper.document import time_ns
from shipper.health import Health
from shipper.inputs.tail.generation import Generation, cursor_row
from shipper.ledger import DEAD, Cursor, in_doubt, lost
from shipper.metrics import Sample
from shipper.pipeline.pipeline import Pipeline

STUCK_S = 60.0  # readable files and room in an output, but nothing was read
MOST_FILES = 100  # with backlog, in the status
RATE_SAMPLES = 12  # each of TEND_S

_TIME = re.compile(rb'(?:^|"time":")(\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d))')


class Report:
    def __init__(self, pipeline: Pipeline, *, version: str, native: str, config_hash: int, memory_limit: int) -> None:
        self._pipeline = pipeline
        self._version, self._native = version, native
        self.config_hash, self.memory_limit = config_hash, memory_limit
        self.node = ""
        self._rates = _Rates(self._counts)
        pipeline.on_tend = self._rates.sample
        self.reloads: Callable[[], Any] = lambda: None  # what became of attempts at another configuration

    # -- metrics ------------------------------------------------------------------------------------------------------

    def gauges(self) -> Iterable[Sample]:
        pipeline = self._pipeline
        yield Sample("shipper_build_info", (self._version, self._native), 1)
        yield Sample("shipper_config_hash", (), self.config_hash)
        last_reload = (self.reloads() or {}).get("last") or {}
        yield Sample("shipper_config_refused", (), float(last_reload.get("result") == "refused"))
        yield Sample("shipper_memory_limit_bytes", (), self.memory_limit)
        yield Sample("shipper_in_flight_bytes", (), sum(w.used_bytes for w in pipeline.crew.everybody()))
        for tail in pipeline.inputs:
            yield Sample("shipper_input_files", (tail.name,), len(set(map(id, tail.catalog.by_path.values()))))
            yield Sample("shipper_input_paused", (tail.name,), float(pipeline.pump.is_paused))
        for name, worker in pipeline.workers.items():
            count, age = self.backlog(name)
            yield Sample("shipper_backlog_bytes", (name,), count)
            yield Sample("shipper_backlog_seconds", (name,), age)
            if worker.pace is not None:
                yield Sample("shipper_output_batch_limit_bytes", (name,), worker.pace.batch_bytes)
                yield Sample("shipper_output_concurrency_limit", (name,), worker.pace.concurrency)
            output: Any = worker.output
            if hasattr(output, "spool_bytes"):
                yield Sample("shipper_spool_bytes", (name,), output.spool_bytes())
                yield Sample("shipper_spool_seconds", (name,), output.spool_seconds())
        metadata: Any = pipeline.metadata
        if metadata is not None:
            yield Sample("shipper_kubernetes_pods", (), metadata.pods())
            yield Sample("shipper_kubernetes_watch_age_seconds", (), metadata.watch_age_s())

    def backlog(self, output: str) -> tuple[int, float]:
        """(bytes that this output has not confirmed, age in seconds of the oldest record among them)."""
        total, oldest = 0, None
        for generation, cursor in self._cursors(output):
            if waiting := cursor.waiting(generation.size):
                total += waiting
                since = _time_at(generation, cursor)
                oldest = since if oldest is None else min(oldest, since)
        return total, max(0.0, time.time() - oldest) if oldest is not None else 0.0

    def _cursors(self, output: str) -> Iterator[tuple[Generation, Cursor]]:
        for generation in self._pipeline.generations():
            if cursor := generation.cursors.get(output):
                yield generation, cursor

    # -- health -------------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """Fails when nothing moves though it could, or nothing can be saved before a new start; a destination that is
        down, or a disk that is full, is no reason.
        """
        pump, journal = self._pipeline.pump, self._pipeline.journal
        if journal.is_lost:
            return Health(ok=False, reasons=[journal.last_error])
        could = pump.waiting() and any(w.room_bytes > 0 for w in self._pipeline.workers.values())
        idle = time.monotonic() - pump.last_progress
        if self._pipeline.is_reading and could and idle > STUCK_S:
            return Health(
                ok=False, reasons=[f"files wait and outputs have room, but nothing was read for {idle:.0f} s"]
            )
        return Health(ok=True)

    def ready(self) -> Health:
        """Inputs run, the checkpoint can be written, and no output that had something to deliver has failed to reach
        its destination so far.
        """
        reasons = [] if self._pipeline.has_scanned else ["the first scan of the log folders is not done"]
        reasons += [
            f"output {worker.name} has not reached its destination yet"
            for worker in self._pipeline.workers.values()
            if not worker.was_reached and worker.last_error
        ]
        reasons += filter(None, [self._pipeline.journal.last_error])
        return Health(ok=not reasons, reasons=reasons)

    # -- status -------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        pipeline = self._pipeline
        outputs = []
        for name, worker in pipeline.workers.items():
            count, age = self.backlog(name)
            outputs.append(
                {
                    **worker.status(),
                    **self._told(name),
                    "delivered_records": self._counts()["output", name],
                    "records_per_s": self._rates.per_s("output", name),
                    "backlog_bytes": count,
                    "backlog_seconds": round(age, 3),
                }
            )
        outputs += [{**tenure.worker.status(), "state": "leaving"} for tenure in pipeline.crew.leaving]
        return {
            "version": self._version,
            "node": self.node,
            "native": self._native,
            "started_at": pipeline.started_at,
            "config_hash": self.config_hash,
            "reload": self.reloads(),
            "paused": pipeline.pump.is_paused,
            "inputs": [
                {**tail.status(), "records_per_s": self._rates.per_s("input", tail.name)} for tail in pipeline.inputs
            ],
            "files": self._files(),
            "outputs": outputs,
            "removed_outputs": self._removed(),
            "kubernetes": pipeline.metadata.status() if pipeline.metadata is not None else None,
            "checkpoint": {"last_error": pipeline.journal.last_error or None, "failures": pipeline.journal.failures},
        }

    def _counts(self) -> Counter[tuple[str, str]]:
        """Records so far, of this process: by input, and delivered by output."""
        metrics, found = self._pipeline.metrics, Counter[tuple[str, str]]()
        for kind, metric in (("input", metrics.input_records), ("output", metrics.output_records)):
            for sample in (sample for family in metric.collect() for sample in family.samples):
                if sample.name.endswith("_total") and sample.labels.get("fate") != "rejected":
                    found[kind, sample.labels["name"]] += int(sample.value)
        return found

    def _told(self, output: str) -> dict[str, int]:
        """What the ledger tells of its losses."""
        lost_bytes, doubted, dead, gaps = 0, 0, 0, 0
        for generation, cursor in self._cursors(output):
            lost_bytes += _told_as(lost(""), cursor)
            doubted += _told_as(in_doubt(""), cursor)
            dead += cursor.fates.get(DEAD, 0)
            gaps += generation.gaps
        return {"lost_bytes": lost_bytes, "in_doubt_bytes": doubted, "dead_lettered_bytes": dead, "gaps": gaps}

    def _removed(self) -> list[dict[str, Any]]:
        """Those whose cursors are kept, for the case that they come back."""
        found: dict[str, dict[str, Any]] = {}
        for generation in self._pipeline.generations():
            for name, cursor in generation.parked.items():
                if name not in self._pipeline.workers:
                    one = found.setdefault(name, {"name": name, "since": cursor.parked_at, "left_bytes": 0})
                    one["left_bytes"] += cursor.pending(generation.size)
        return list(found.values())

    def _files(self) -> list[dict[str, Any]]:
        rows: list[tuple[int, dict[str, Any]]] = []
        for generation in self._pipeline.generations():
            pending = {c.output: c.pending(generation.size) for c in generation.cursors.values()}
            if most := max(pending.values(), default=0):
                rows.append(
                    (
                        most,
                        {
                            "path": generation.path,
                            "size": generation.size,
                            "backlog_bytes": pending,
                            "waits_for_metadata": self._pipeline.waits_for_metadata(generation),
                        },
                    )
                )
        rows.sort(key=lambda row: -row[0])
        return [row for _, row in rows[:MOST_FILES]]

    def lost_bytes(self) -> int:
        """Of all accounts, without making them."""
        prefix = lost("")
        return sum(_told_as(prefix, cursor) for g in self._pipeline.generations() for cursor in g.all_cursors())

    def accounts(self) -> list[Account]:
        rows = ((g.to_row(), [cursor_row(c) for c in g.all_cursors()]) for g in self._pipeline.generations())
        return accounts(rows, list(self._pipeline.workers))


class _Rates:
    """Records a second over the last minute; a sample now and then is enough."""

    def __init__(self, counts: Callable[[], Counter[tuple[str, str]]]) -> None:
        self._counts = counts
        self._samples = deque([(time.monotonic(), Counter[tuple[str, str]]())], maxlen=RATE_SAMPLES)

    def sample(self) -> None:
        self._samples.append((time.monotonic(), self._counts()))

    def per_s(self, kind: str, name: str) -> float:
        since, before = self._samples[0]
        passed = time.monotonic() - since
        return round((self._counts()[kind, name] - before[kind, name]) / passed, 1) if passed > 0 else 0.0


def _time_at(generation: Generation, cursor: Cursor) -> float:
    """When the record at the cursor was written, epoch seconds; as far as its first bytes tell."""
    head = b""
    if generation.file is not None and not generation.is_gzip:
        with contextlib.suppress(OSError):  # whoever reads the file for its records says so
            head = generation.file.read(cursor.acked, 256)
    found = _TIME.search(head)
    time_ = found[1] if found else cursor.acked_state.last_time or generation.first_seen
    return time_ns(time_) / 1e9 or time.time()


def _told_as(prefix: str, cursor: Cursor) -> int:
    """Bytes with a fate of that kind, for whatever reason."""
    return sum(count for fate, count in cursor.fates.items() if fate.startswith(prefix))
