"""What the daemon says of itself: stuck only when it could go on, ready when every output was reached."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from shipper.inputs.tail.generation import Generation
from shipper.ledger import Cursor, in_doubt, lost
from shipper.pipeline import report as module
from shipper.pipeline.report import STUCK_S, Report
from shipper.record import Source, State


@dataclass
class FakePump:
    last_progress: float
    has_work: bool = True
    is_paused: bool = False

    def waiting(self) -> bool:
        return self.has_work


@dataclass
class FakeWorker:
    name: str = "es"
    room_bytes: int = 1
    used_bytes: int = 0
    was_reached: bool = False
    last_error: str = ""


@dataclass
class FakeFile:
    content: bytes | None  # None: the disk fails
    is_gzip: bool = False

    def read(self, offset: int, length: int) -> bytes:
        if self.content is None:
            raise OSError("the disk fails")
        return self.content[offset : offset + length]


@dataclass
class FakeJournal:
    last_error: str = ""
    is_lost: bool = False


@dataclass
class FakePipeline:
    pump: FakePump
    workers: dict[str, FakeWorker]
    journal: FakeJournal = field(default_factory=FakeJournal)
    is_reading: bool = True
    has_scanned: bool = True
    found: list[Generation] = field(default_factory=list)

    def generations(self) -> list[Generation]:
        return self.found


def report(**known: Any) -> Report:
    pump = known.pop("pump", FakePump(time.monotonic()))
    worker = known.pop("worker", FakeWorker())
    pipeline: Any = FakePipeline(pump, {worker.name: worker}, **known)
    return Report(pipeline, version="1", native="no", config_hash=1, memory_limit=1)


def test_rates_are_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, counts = [1000.0], Counter({("output", "es"): 0})
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rates = module._Rates(lambda: Counter(counts))
    assert rates.per_s("output", "es") == 0.0
    for _ in range(30):  # at ten a second
        now[0] += 5
        counts["output", "es"] += 50
        rates.sample()
    assert rates.per_s("output", "es") == 10.0
    for _ in range(module.RATE_SAMPLES):
        now[0] += 5
        rates.sample()
    assert rates.per_s("output", "es") == 0.0


LONG_AGO = time.monotonic() - STUCK_S - 1


@pytest.mark.parametrize(
    ("known", "is_healthy"),
    [
        ({"pump": FakePump(LONG_AGO)}, False),
        ({"pump": FakePump(LONG_AGO, has_work=False)}, True),
        ({"pump": FakePump(LONG_AGO), "worker": FakeWorker(room_bytes=0)}, True),
        ({"pump": FakePump(LONG_AGO), "is_reading": False}, True),
        ({}, True),
        ({"journal": FakeJournal("it was deleted", is_lost=True)}, False),
        ({"journal": FakeJournal("the disk is full")}, True),
    ],
    ids=["stuck", "nothing to read", "the destination is down", "draining", "busy", "state deleted", "disk full"],
)
def test_health_fails_only_when_nothing_moves_though_it_could(known: dict[str, Any], *, is_healthy: bool) -> None:
    health = report(**known).health()
    assert health.ok is is_healthy
    assert bool(health.reasons) is not is_healthy


@pytest.mark.parametrize(
    ("known", "reasons"),
    [
        ({}, []),
        ({"has_scanned": False}, ["the first scan of the log folders is not done"]),
        ({"worker": FakeWorker(last_error="refused")}, ["output es has not reached its destination yet"]),
        ({"worker": FakeWorker(last_error="refused", was_reached=True)}, []),
        ({"journal": FakeJournal("the disk is full")}, ["the disk is full"]),
    ],
    ids=["nothing to deliver yet", "not scanned", "never reached", "down since", "nothing can be saved"],
)
def test_ready_when_inputs_run_and_outputs_were_reached(known: dict[str, Any], reasons: list[str]) -> None:
    ready = report(**known).ready()
    assert (ready.ok, list(ready.reasons)) == (not reasons, reasons)


def behind(content: bytes | None, *, acked: int = 0) -> Generation:
    generation = Generation(1, Source("pods", "/log"), "/log", "t", size=1_000, first_seen=b"1970-01-01T00:00:10Z")
    generation.file = cast("Any", FakeFile(content))
    generation.cursors["es"] = Cursor(1, "es", acked=acked, state=State(b"1970-01-01T00:00:20Z"))
    return generation


@pytest.mark.parametrize(
    ("content", "written_at"),
    [
        (b"xx1970-01-01T00:00:30.5Z stdout F hello\n", 30.5),
        (b'xx{"log":"hello\\n","stream":"stdout","time":"1970-01-01T00:00:40Z"}\n', 40.0),
        (b"xxno time here\n", 20.0),
        (None, 20.0),
    ],
    ids=["cri", "docker", "text", "unreadable"],
)
def test_backlog_is_as_old_as_the_record_at_the_cursor(content: bytes | None, written_at: float) -> None:
    size, age = report(found=[behind(content, acked=2)]).backlog("es")
    assert size == 998
    assert time.time() - age == pytest.approx(written_at, abs=5)


def test_no_backlog_has_no_age() -> None:
    assert report(found=[behind(b"", acked=1_000)]).backlog("es") == (0, 0.0)
    assert report().backlog("es") == (0, 0.0)


def test_lost_bytes_are_those_of_all_accounts() -> None:
    found = [behind(b"", acked=number) for number in range(3)]
    found[0].cursors["es"].fates = {"delivered": 7, lost("deleted"): 2, lost("truncated"): 1, in_doubt("deleted"): 4}
    found[1].parked = {"file": Cursor(1, "file", fates={lost("deleted"): 5})}
    made = report(found=found)
    assert made.lost_bytes() == sum(account.lost for account in made.accounts()) == 8
