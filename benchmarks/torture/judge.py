"""What arrived, held against what was written, record by record; and the daemon's ledger against both, byte by byte."""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.world.account import Account, ContainerAccount
from benchmarks.world.check import Checker, Verdict
from benchmarks.world.runtime import ContainerLog, Place, Stretch

Documents = Iterable[tuple[bytes | None, bytes]]
Key = tuple[str, str]  # pod uid, container
Name = tuple[str, str, str]  # namespace, pod, container
FATES = ("seen", "delivered", "unmatched", "dead_lettered", "lost", "in_doubt", "pending", "spooled")
EXAMPLES = 3  # of each kind, in an account of what is wrong

_SEQ = re.compile(rb'"seq":(\d+)')


@dataclass
class Arrival:
    """What one output's destination holds, and which records are its dead letters, how often.

    `order`: whether documents come in the order of their arrival. `refuses`: it takes no refused record.
    """

    output: str
    documents: list[tuple[bytes | None, bytes]]
    order: bool
    refuses: bool = False
    letters: Mapping[Name, Counter[int]] = field(default_factory=dict)

    def dead(self, container: ContainerAccount) -> Counter[int]:
        return self.letters.get(name_of(container), Counter())


@dataclass
class Findings:
    """Of one output. What is wrong stands in `problems`, as sentences that name the record, its file and its offset."""

    output: str
    expected: int
    delivered: int = 0
    duplicates: int = 0  # the same record more than once, under whatever id
    rejected: int = 0
    lost: int = 0
    split: int = 0
    told_lost_bytes: int = 0  # by the daemon's ledger
    gaps: int = 0
    problems: list[str] = field(default_factory=list)


class Truth:
    """What was written: by container its records' bytes, and where each of them is."""

    def __init__(self, account: Account, logs: Sequence[ContainerLog]) -> None:
        self.account = account
        self.logs = {log.account.key: log for log in logs}
        self._sizes: dict[Key, list[int]] = {}

    def sizes(self, key: Key) -> list[int]:
        """Bytes of each record, lines and all."""
        if key not in self._sizes:
            sizes = [0] * self.logs[key].account.records
            for _, place in self._places(key):
                sizes[place.record] += place.end - place.begin
            self._sizes[key] = sizes
        return self._sizes[key]

    def _places(self, key: Key) -> Iterable[tuple[Stretch, Place]]:
        for stretch in self.logs[key].stretches:
            for place in stretch.places:
                yield stretch, place

    def where(self, key: Key, record: int) -> str:
        """For a person: the record, its file and its offset."""
        log = self.logs[key]
        spots = [
            f"{stretch.name}, file {number} of {len(log.stretches)}, at {place.begin}-{place.end}"
            for number, stretch in enumerate(log.stretches, 1)
            for place in stretch.places
            if place.record == record
        ]
        return f"{log.account.name} record {record}: {', '.join(spots)}"


def judge(
    truth: Truth, arrival: Arrival, wanted: Account, unreadable: Mapping[Key, set[int]]
) -> tuple[Findings, Verdict]:
    """`wanted`: the containers whose records belong there; `unreadable`: records that may be missing, or in parts."""
    checker = Checker(wanted, by_time=not arrival.order)
    checker.feed(arrival.documents)
    verdict = checker.verdict()
    found = Findings(arrival.output, wanted.records, split=len(verdict.split), duplicates=verdict.duplicates)
    for container in wanted.containers:
        key, dead = container.key, arrival.dead(container)
        missing, refused = set(verdict.missing.get(key, ())), set(container.refused) if arrival.refuses else set[int]()
        lost = missing - dead.keys()
        found.lost += len(lost)
        found.rejected += dead.total()
        found.delivered += container.records - len(missing)
        for what, records in (
            ("lost", lost - unreadable.get(key, set())),
            ("twice", verdict.duplicate.get(key, ())),
            ("delivered, though it was refused", refused - missing),
            ("a dead letter, though it was not refused", dead.keys() - refused),
            ("a dead letter more than once", [record for record, times in dead.items() if times > 1]),
        ):
            told = [f"{arrival.output}: {what}: {truth.where(key, record)}" for record in sorted(records)[:EXAMPLES]]
            found.problems += told
    kinds = ["wrong", "stray", *(["disorder"] if arrival.order else []), *([] if unreadable else ["split"])]
    for what in kinds:
        found.problems += [f"{arrival.output}: {what}: {sentence}" for sentence in getattr(verdict, what)[:EXAMPLES]]
    return found, verdict


def dead_letters(state_dir: Path, output: str) -> dict[Name, Counter[int]]:
    """By container: how often each record is there."""
    path, found = state_dir / "dead-letters.sqlite", dict[Name, Counter[int]]()
    if path.exists():
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            asked = "SELECT namespace, pod, container, document FROM letters WHERE output = ?"
            for *name, document in db.execute(asked, (output,)):
                match = _SEQ.search(document)
                found.setdefault((*name,), Counter())[int(match[1]) if match else -1] += 1
    return found


def name_of(container: ContainerAccount) -> Name:
    return container.namespace, container.pod, container.container


def check_ledger(
    findings: Findings,
    truth: Truth,
    arrival: Arrival,
    verdict: Verdict,
    accounts: Iterable[Mapping[str, Any]],
    *,
    may_lose: bool,
    unseen: Mapping[Key, set[int]] = MappingProxyType({}),
) -> None:
    """For each container: what the ledger says of its bytes is what became of them.

    With `may_lose`: what is lost is never told too high; and exactly, unless a gap or bytes in doubt say that nobody
    knows, or it is of `unseen` records, whose files came and went while nobody could have looked. (Of an output that
    takes only some pods, nothing is judged where it takes none of this one: what was lost before its labels were known
    counts there.)
    """
    mine = {(a["namespace"], a["pod"], a["container"]): a for a in accounts if a["output"] == findings.output}
    for log in truth.logs.values():
        container = log.account
        row = mine.get(name_of(container))
        if row is None and (may_lose or not container.bytes):
            continue  # it came and went before anybody looked
        if row is None:
            findings.problems.append(f"{findings.output}: the ledger does not know {container.name}")
            continue
        findings.told_lost_bytes += row["lost"]
        findings.gaps += row["gaps"]
        expected = _expected(truth, arrival, verdict, container)
        told = {fate: row[fate] for fate in expected}
        if may_lose and container.key in verdict.names:
            sizes, missing = truth.sizes(container.key), verdict.missing.get(container.key, ())
            unknown = sum(sizes[record] for record in unseen.get(container.key, set()).intersection(missing))
            least = expected["lost"] - unknown
            findings.problems += _judge_losses(
                findings.output, container, told, expected, least=least, gaps=row["gaps"]
            )
        elif not may_lose and (told != expected or row["gaps"]):
            findings.problems.append(f"{findings.output}: ledger of {container.name}: {_difference(told, expected)}")


def _expected(truth: Truth, arrival: Arrival, verdict: Verdict, container: ContainerAccount) -> dict[str, int]:
    sizes, dead = truth.sizes(container.key), arrival.dead(container)
    fates = dict.fromkeys(FATES, 0)
    fates["seen"] = container.bytes
    if container.key not in verdict.names:  # it does not belong there
        return fates | {"unmatched": container.bytes}
    missing = set(verdict.missing.get(container.key, ())) - dead.keys()
    fates["dead_lettered"] = sum(sizes[record] for record in dead)
    fates["lost"] = sum(sizes[record] for record in missing)
    fates["delivered"] = container.bytes - fates["dead_lettered"] - fates["lost"]
    return fates


def _difference(told: Mapping[str, int], expected: Mapping[str, int]) -> str:
    return ", ".join(f"{fate} {told[fate]}, not {expected[fate]}" for fate in expected if told[fate] != expected[fate])


def _judge_losses(
    output: str,
    container: ContainerAccount,
    told: Mapping[str, int],
    expected: Mapping[str, int],
    *,
    least: int,
    gaps: int,
) -> list[str]:
    """`least`: bytes of lost records of which somebody could know."""
    unseen = expected["seen"] - told["seen"]
    problems = []
    if told["pending"] or told["spooled"]:
        problems.append(f"pending {told['pending']}, spooled {told['spooled']}")
    if told["lost"] > expected["lost"]:
        problems.append(f"lost {told['lost']} is told, which is more than the {expected['lost']} that are")
    if unseen < 0:
        problems.append(f"seen {told['seen']}, though only {expected['seen']} were written")
    if told["lost"] + told["in_doubt"] < least and not gaps:
        problems.append(
            f"lost {told['lost'] + told['in_doubt']} of {least} is told, and no gap; {unseen} were not seen"
        )
    return [f"{output}: ledger of {container.name}: {problem}" for problem in problems]
