"""The judge: were all records delivered, once, in order, whole, and under the right name?

    python -m benchmarks.world.check ACCOUNT.json DOCUMENTS.ndjson[.gz|.zst] ...

It knows an account (what was written) and looks at documents, wherever they come from: NDJSON files, bodies of bulk
requests, a store. It shares no code with the shipper, and decodes every document.
"""

import argparse
import gzip
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import zstandard

from benchmarks.world.account import Account, ContainerAccount

Documents = Iterable[tuple[bytes | None, bytes]]  # id, where there is one, and the JSON object
Key = tuple[str, str]

# A record's number, as itself, within a message, or within JSON that was kept as text; and whether it must have an end.
_MARK = re.compile(rb'\bseq\\?"?[:=] ?(\d+)(,? ?\\?"?long\b)?')
_END = re.compile(rb'\bend\\?"?[:=] ?(\d+)')
_ID = re.compile(rb'\{"_id":"([^"]*)"')
EXAMPLES = 10


@dataclass
class Verdict:
    """What is wrong, if anything. Sequence numbers are given by container (pod uid, container name)."""

    expected: int
    documents: int = 0
    by_namespace: Counter[str] = field(default_factory=Counter)
    repeated_ids: int = 0  # the same id again: harmless where ids deduplicate, and only counted then
    missing: dict[Key, list[int]] = field(default_factory=dict)
    duplicate: dict[Key, list[int]] = field(default_factory=dict)
    disorder: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # metadata that is not the account's
    stray: list[str] = field(default_factory=list)  # documents that nobody wrote
    names: dict[Key, str] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        return sum(map(len, self.missing.values()))

    @property
    def duplicates(self) -> int:
        return sum(map(len, self.duplicate.values()))

    @property
    def ok(self) -> bool:
        return not (self.missing or self.duplicate or self.disorder or self.split or self.wrong or self.stray)

    def __str__(self) -> str:
        counts = {"lost": self.lost, "duplicate": self.duplicates, "out of order": len(self.disorder)}
        counts |= {"split": len(self.split), "wrong metadata": len(self.wrong), "stray": len(self.stray)}
        head = f"{self.expected:,} records, {self.documents:,} documents; "
        lines = [head + ", ".join(f"{count:,} {what}" for what, count in counts.items())]
        for what, numbers in (("missing", self.missing), ("duplicate", self.duplicate)):
            lines += [f"  {what}: {self.names[key]}: {show_ranges(found)}" for key, found in numbers.items()][:EXAMPLES]
        for what, sentences in (("order", self.disorder), ("split", self.split)):
            lines += [f"  {what}: {sentence}" for sentence in sentences[:EXAMPLES]]
        for what, sentences in (("metadata", self.wrong), ("stray", self.stray)):
            lines += [f"  {what}: {sentence}" for sentence in sentences[:EXAMPLES]]
        return "\n".join(lines)


def show_ranges(numbers: list[int]) -> str:
    """`[1, 2, 3, 7]` -> `1-3, 7`; the first ten ranges."""
    ranges = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        ranges.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(ranges[:EXAMPLES]) + (f" and {len(ranges) - EXAMPLES} more" if len(ranges) > EXAMPLES else "")


class _Seen:
    """What has arrived of one container."""

    def __init__(self, account: ContainerAccount) -> None:
        self.account = account
        self.times = bytearray(account.records)
        self.last: dict[str, int] = {}
        self.at: dict[int, str] = {}  # @timestamp by number, without its Z: then it sorts as it is
        self.streams: dict[str, int] = {}


class Checker:
    """Takes documents in the order of their arrival, then gives its verdict.

    `by_id`: a document with an id that was there before does not count, as in Elasticsearch. `by_time`: the order is
    that of `@timestamp`, as where requests overtake each other, and not that of arrival. `labels`: documents must carry
    the pod's labels.
    """

    def __init__(self, account: Account, *, by_id: bool = False, by_time: bool = False, labels: bool = False) -> None:
        self._seen = {container.key: _Seen(container) for container in account.containers}
        self._ids: set[bytes] | None = set() if by_id else None
        self._by_time = by_time
        self._labels = labels
        self._verdict = Verdict(account.records, names={c.key: c.name for c in account.containers})

    def feed(self, documents: Documents) -> None:
        for identity, document in documents:
            if self._ids is not None and identity is not None:
                if identity in self._ids:
                    self._verdict.repeated_ids += 1
                    continue
                self._ids.add(identity)
            self._verdict.documents += 1
            self._look(document)

    def verdict(self) -> Verdict:
        verdict = self._verdict
        for key, seen in self._seen.items():
            missing = [number for number, times in enumerate(seen.times) if times == 0]
            duplicate = [number for number, times in enumerate(seen.times) if times > 1]
            self._check_times(seen)
            if missing:
                verdict.missing[key] = missing
            if duplicate:
                verdict.duplicate[key] = duplicate
            if not missing and not duplicate and seen.streams != seen.account.streams:
                verdict.wrong.append(f"{seen.account.name}: by stream {seen.streams}, not {seen.account.streams}")
        return verdict

    def _look(self, document: bytes) -> None:
        decoded = orjson.loads(document)
        kubernetes = decoded.get("kubernetes", {})
        seen = self._seen.get((kubernetes.get("pod_id"), kubernetes.get("container_name")))
        if seen is None:
            self._verdict.stray.append(f"of no container that should be here: {document[:200]!r}")
            return
        self._verdict.by_namespace[seen.account.namespace] += 1
        self._check_metadata(seen.account, decoded, kubernetes)
        marks = _MARK.findall(document)
        if not marks:
            kind = self._verdict.split if _END.search(document) else self._verdict.stray
            kind.append(f"{seen.account.name}: a document without a number: {document[-200:]!r}")
        for number, is_long in marks:
            self._count(seen, int(number), decoded.get("stream", "stdout"))
            if self._by_time:
                seen.at[int(number)] = decoded.get("@timestamp", "").removesuffix("Z")
            if is_long and number not in _END.findall(document) and int(number) not in seen.account.unfinished:
                self._verdict.split.append(f"{seen.account.name}: record {int(number)} has lost its end")

    def _count(self, seen: _Seen, number: int, stream: str) -> None:
        if number >= len(seen.times):
            self._verdict.stray.append(f"{seen.account.name}: record {number} was never written")
            return
        last = seen.last.get(stream, -1)
        if seen.times[number] == 0:
            seen.streams[stream] = seen.streams.get(stream, 0) + 1
            if number < last and not self._by_time:
                self._verdict.disorder.append(f"{seen.account.name}: record {number} came after {last} ({stream})")
        seen.times[number] = min(255, seen.times[number] + 1)
        seen.last[stream] = max(last, number)

    def _check_times(self, seen: _Seen) -> None:
        for earlier, later in itertools.pairwise(sorted(seen.at)):
            if seen.at[later] < seen.at[earlier]:
                self._verdict.disorder.append(f"{seen.account.name}: record {later} is dated before {earlier}")

    def _check_metadata(self, account: ContainerAccount, decoded: dict[str, Any], kubernetes: dict[str, Any]) -> None:
        right = kubernetes.get("namespace_name") == account.namespace and kubernetes.get("pod_name") == account.pod
        if self._labels:
            right = right and kubernetes.get("labels") == account.labels
        if not right or "@timestamp" not in decoded:
            self._verdict.wrong.append(f"{account.name}: {orjson.dumps(kubernetes).decode()[:300]}")


def bulk_documents(body: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Of the body of a bulk request: action lines and documents in turn."""
    lines = body.split(b"\n")
    for action, document in zip(lines[0::2], lines[1::2], strict=False):
        operation = next(iter(orjson.loads(action).values()))
        identity = operation.get("_id")
        yield (identity.encode() if identity else None), document


def ndjson_documents(path: Path) -> Iterator[tuple[bytes | None, bytes]]:
    """Of a file, plain or compressed."""
    return split_documents(read_file(path))


def split_documents(data: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Of newline-delimited JSON. An archived document's id is its first key."""
    for line in data.split(b"\n"):
        if line:
            match = _ID.match(line)
            yield (match[1] if match else None), line


def read_file(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader,
        ):
            return reader.read()
    return path.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("account", type=Path)
    parser.add_argument("documents", type=Path, nargs="+")
    parser.add_argument("--by-id", action="store_true", help="the same id again is no duplicate")
    options = parser.parse_args()
    checker = Checker(Account.load(options.account), by_id=options.by_id)
    for path in options.documents:
        checker.feed(ndjson_documents(path))
    verdict = checker.verdict()
    print(verdict)
    raise SystemExit(0 if verdict.ok else 1)


if __name__ == "__main__":
    main()
