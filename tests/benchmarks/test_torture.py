"""A short torture, of fixed seeds; and a judge that sees what it is there to see."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.torture.archive import Archive
from benchmarks.torture.judge import Arrival, Findings, Truth, check_ledger, dead_letters, judge, name_of
from benchmarks.torture.pace import Pace
from benchmarks.torture.run import Outcome, Torture
from benchmarks.torture.table import row, total
from benchmarks.world.account import Account
from benchmarks.world.kubelet import Kubelet, Pod
from shipper.dead_letters import DeadLetter, DeadLetters

MINUTES = 10.0  # simulated, in five of our seconds
FACTOR = 120.0


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Servers are stopped amid requests."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


@pytest.mark.timeout(240)  # on a busy machine
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_that_stays_readable_is_lost_repeated_or_split_under_all_faults(
    seed: int, tmp_path: Path, moto_url: str
) -> None:
    archive = Archive(moto_url, f"torture-{seed}")
    pace = Pace(FACTOR, MINUTES)
    torture = Torture(tmp_path, seed=seed, pace=pace, archive=archive, keeps_unread=True, crowded=False)
    outcome = await torture.run()
    assert outcome.ok, "\n".join(outcome.problems)
    assert outcome.records > 1000
    assert outcome.faults.total() > 10


# The judge


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """Its container has written five records and one that is refused, over a rotation."""
    kubelet = Kubelet(tmp_path / "pods", seed=7)
    pod = kubelet.create_pod()
    pod.log.write(3)
    kubelet.rotate(pod.log)
    pod.log.write(2)
    pod.log.write_refused()
    return pod


class Judged:
    """What the judge says of a pod's documents, dead letters and ledger."""

    def __init__(self, pod: Pod, *, letters: Mapping[int, int] | None = None, may_lose: bool = False) -> None:
        self.pod, self.may_lose = pod, may_lose
        self.account = pod.log.account
        self.numbers = [n for n in range(self.account.records) if n not in self.account.refused]
        self.letters = dict.fromkeys(self.account.refused, 1) if letters is None else dict(letters)
        self.ledger: dict[str, Any] = {}
        self.unseen: set[int] = set()

    def document(self, number: int) -> tuple[bytes | None, bytes]:
        pod, account = self.pod.plan, self.account
        kubernetes = b'{"namespace_name":"%b","pod_name":"%b","pod_id":"%b","container_name":"%b"}' % tuple(
            text.encode() for text in (pod.namespace, pod.name, pod.uid, account.container)
        )
        second = b"2026-11-21T10:00:%02dZ" % number
        return None, b'{"@timestamp":"%b","kubernetes":%b,"seq":%d}' % (second, kubernetes, number)

    def find(self, *, unreadable: set[int] | None = None) -> Findings:
        self.account.streams = {"stdout": self.account.records}
        wanted = Account(seed=7, containers=[self.account])
        truth = Truth(wanted, self.pod.logs)
        letters = {name_of(self.account): Counter(self.letters)}
        documents = [self.document(number) for number in self.numbers]
        arrival = Arrival("es", documents, order=True, refuses=True, letters=letters)
        found, verdict = judge(truth, arrival, wanted, {self.account.key: unreadable} if unreadable else {})
        sizes = truth.sizes(self.account.key)
        dead = sum(sizes[number] for number in self.letters)
        told = {"seen": self.account.bytes, "delivered": self.account.bytes - dead, "dead_lettered": dead}
        told |= dict.fromkeys(("unmatched", "lost", "in_doubt", "pending", "spooled", "gaps"), 0)
        names = dict(zip(("namespace", "pod", "container"), name_of(self.account), strict=True))
        rows = [{"output": "es", **names, **told, **self.ledger}]
        unseen = {self.account.key: self.unseen}
        check_ledger(found, truth, arrival, verdict, rows, may_lose=self.may_lose, unseen=unseen)
        return found


def test_all_that_arrives_and_a_ledger_that_says_so_are_well(pod: Pod) -> None:
    found = Judged(pod).find()
    assert found.problems == []
    assert (found.delivered, found.rejected, found.lost) == (pod.log.account.records - 1, 1, 0)


def test_a_lost_record_is_named_with_its_file_and_offset(pod: Pod) -> None:
    judged = Judged(pod)
    judged.numbers.remove(1)
    place = next(place for place in pod.log.stretches[0].places if place.record == 1)
    problem = judged.find().problems[0]
    assert problem.endswith(f"record 1: 0.log, file 1 of 2, at {place.begin}-{place.end}")
    assert problem.startswith("es: lost: ")


def test_what_comes_twice_or_late_is_told(pod: Pod) -> None:
    judged = Judged(pod)
    judged.numbers += [0]
    (twice,) = judged.find().problems
    assert "twice" in twice
    judged.numbers = [1, 0, *judged.numbers[2:-1]]
    assert any("disorder" in problem for problem in judged.find().problems)


@pytest.mark.parametrize(
    ("letters", "word"),
    [({}, "lost"), ({0: 1}, "though it was not refused"), ({5: 2}, "more than once")],
)
def test_dead_letters_are_the_refused_records_once_each(pod: Pod, letters: Mapping[int, int], word: str) -> None:
    assert pod.log.account.refused == [5]
    assert any(word in problem for problem in Judged(pod, letters=letters).find().problems)


@pytest.mark.parametrize(
    "fate", ["seen", "delivered", "dead_lettered", "unmatched", "lost", "in_doubt", "pending", "spooled", "gaps"]
)
def test_a_ledger_that_is_wrong_by_a_byte_is_told(pod: Pod, fate: str) -> None:
    judged = Judged(pod)
    judged.ledger = {fate: 1}
    assert any("ledger of" in problem for problem in judged.find().problems)


def test_what_was_deleted_unread_may_be_missing_if_the_ledger_tells_it_exactly(pod: Pod) -> None:
    judged = Judged(pod, may_lose=True)
    judged.numbers.remove(1)
    size = Truth(Account(seed=7, containers=[pod.log.account]), pod.logs).sizes(pod.log.account.key)[1]
    judged.ledger = {"lost": size}
    assert judged.find(unreadable={1}).problems == []
    judged.ledger = {"lost": size + 1}
    assert any("more than" in problem for problem in judged.find(unreadable={1}).problems)
    judged.ledger = {"lost": size - 1}
    assert any("no gap" in problem for problem in judged.find(unreadable={1}).problems)
    judged.ledger = {"lost": size - 1, "gaps": 1}
    assert judged.find(unreadable={1}).problems == []
    judged.ledger = {"lost": size - 1, "in_doubt": 1}
    assert judged.find(unreadable={1}).problems == []
    judged.ledger = {"lost": size + 1, "gaps": 1}
    assert any("more than" in problem for problem in judged.find(unreadable={1}).problems)
    judged.ledger = {"lost": size}
    assert any("es: lost" in problem for problem in judged.find(unreadable={2}).problems)


def test_of_what_came_and_went_while_nobody_looked_nothing_need_be_told(pod: Pod) -> None:
    judged = Judged(pod, may_lose=True)
    judged.numbers.remove(1)
    judged.unseen = {0, 1}
    assert judged.find(unreadable={1}).problems == []
    judged.unseen = {0}
    assert any("no gap" in problem for problem in judged.find(unreadable={1}).problems)


def test_files_that_came_and_went_are_those_that_did_so_within_one_span(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path / "pods")
    pod = kubelet.create_pod()
    pod.log.write(3)
    kubelet.delete_pod(pod)
    (removed,) = kubelet.removed
    begun, gone = removed.stretch.begun_at, removed.at
    assert kubelet.came_and_went([(begun, gone)]) == {pod.log.account.key: set(range(3))}
    assert kubelet.came_and_went([(begun - 1, begun), (gone, gone + 1)]) == {}


def test_dead_letters_are_read_by_container(tmp_path: Path) -> None:
    assert dead_letters(tmp_path, "es") == {}
    store = DeadLetters.open(tmp_path, 1 << 20)
    common: dict[str, Any] = {"time": 1.0, "reason": "r", "detail": "", "target": "logs", "path": "/p", "generation": 1}
    common |= {"namespace": "shop", "pod": "cart", "container": "app", "source_bytes": 9, "document_id": None}
    for number, output in ((7, "es"), (8, "es"), (9, "other")):
        row_ = common | {"output": output, "begin": number, "end": number + 1, "document": b'{"seq":%d}' % number}
        store.add([DeadLetter(**row_)])
    store.close()
    assert dead_letters(tmp_path, "es") == {("shop", "cart", "app"): {7: 1, 8: 1}}


def test_the_table_has_a_row_for_each_seed_and_their_sum() -> None:
    outcomes = [Outcome(seed, records=10, outputs=[Findings("es", 10, delivered=10)]) for seed in (3, 4)]
    assert row(outcomes[0]).split()[:3] == ["3", "10", "10"]
    assert total(outcomes).split()[:3] == ["sum", "20", "20"]
