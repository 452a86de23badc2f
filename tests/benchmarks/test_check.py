"""The checker finds every fault that is planted, and none where there is none."""

import gzip
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import zstandard

from benchmarks.world.account import Account
from benchmarks.world.check import Checker, Verdict, bulk_documents, ndjson_documents, show_ranges
from benchmarks.world.kubelet import Kubelet, Pod, Settings
from benchmarks.world.life import Life
from tests.benchmarks.slow_shipper import slow_documents


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, list[bytes]]:
    """A small node: its account, and the right documents."""
    kubelet = Kubelet(tmp_path_factory.mktemp("node") / "pods", seed=2)
    for _ in range(3):
        pod = kubelet.create_pod()
        pod.log.write(30)
        pod.log.begin_long()
        kubelet.rotate(pod.log)
        pod.log.end_long()
        kubelet.restart_container(pod.log, last_words=True)
        pod.log.write(20)
    return kubelet.account(), list(slow_documents(kubelet.root))


def judge(account: Account, documents: list[bytes], *, by_id: bool = False) -> Verdict:
    checker = Checker(account, by_id=by_id)
    checker.feed((None, document) for document in documents)
    return checker.verdict()


def test_right_documents_pass(world: tuple[Account, list[bytes]]) -> None:
    account, documents = world
    verdict = judge(account, documents)
    assert verdict.ok, str(verdict)
    assert verdict.documents == account.records == 156


def _drop(documents: list[bytes]) -> list[bytes]:
    return documents[:10] + documents[11:]


def _double(documents: list[bytes]) -> list[bytes]:
    return [*documents, documents[10]]


def _swap(documents: list[bytes]) -> list[bytes]:
    return [documents[1], documents[0], *documents[2:]]


def _change(member: str, value: str) -> Callable[[list[bytes]], list[bytes]]:
    def change(documents: list[bytes]) -> list[bytes]:
        document = orjson.loads(documents[10])
        document["kubernetes"][member] = value
        return [*documents[:10], orjson.dumps(document), *documents[11:]]

    return change


def _change_stream(documents: list[bytes]) -> list[bytes]:
    return [*documents[:-1], documents[-1].replace(b'"stream":"std', b'"stream":"Std')]


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (_drop, "missing"),
        (_double, "duplicate"),
        (_swap, "disorder"),
        (_change("namespace_name", "other"), "wrong"),
        (_change("pod_name", "other"), "wrong"),
        (_change("pod_id", "other"), "stray"),
        (_change_stream, "wrong"),
    ],
)
def test_planted_fault_is_found(
    world: tuple[Account, list[bytes]], plant: Callable[[list[bytes]], list[bytes]], found: str
) -> None:
    account, documents = world
    verdict = judge(account, plant(documents))
    assert not verdict.ok
    assert getattr(verdict, found)


def test_halves_of_a_record_are_found(world: tuple[Account, list[bytes]]) -> None:
    account, documents = world
    whole = next(document for document in documents if b"long" in document)
    head, tail = orjson.loads(whole), orjson.loads(whole)
    for member in ("seq", "long", "rows", "end", "message"):
        (head if member == "end" else tail).pop(member, None)
    tail["message"] = 'ff01,","end":30}'
    split = [part for d in documents for part in ([orjson.dumps(head), orjson.dumps(tail)] if d is whole else [d])]
    verdict = judge(account, split)
    assert len(verdict.split) == 2
    assert verdict.lost == 0


def test_faults_are_told_by_name_and_number(world: tuple[Account, list[bytes]]) -> None:
    account, documents = world
    text = str(judge(account, _drop(documents)))
    assert "156 records, 155 documents; 1 lost, 0 duplicate" in text
    assert f"missing: {account.containers[0].namespace}/" in text


def test_a_repeated_id_is_no_duplicate_where_ids_deduplicate(world: tuple[Account, list[bytes]]) -> None:
    account, documents = world
    body = b"".join(b'{"create":{"_id":"%d"}}\n%b\n' % (n, document) for n, document in enumerate(documents))
    checker = Checker(account, by_id=True)
    checker.feed(bulk_documents(body))
    checker.feed(bulk_documents(body[: body.index(b'{"create":{"_id":"5"}}')]))
    verdict = checker.verdict()
    assert verdict.ok
    assert verdict.repeated_ids == 5


def test_documents_that_overtook_each_other_are_ordered_by_their_time(world: tuple[Account, list[bytes]]) -> None:
    account, documents = world
    checker = Checker(account, by_time=True)
    checker.feed((None, document) for document in reversed(documents))
    assert checker.verdict().ok

    redated = orjson.loads(documents[5]) | {"@timestamp": "2030-01-01T00:00:00Z"}
    checker = Checker(account, by_time=True)
    checker.feed((None, document) for document in [*documents[:5], orjson.dumps(redated), *documents[6:]])
    assert "is dated before 5" in str(checker.verdict())


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_files_are_read_in_each_compression(tmp_path: Path, suffix: str) -> None:
    data = b'{"_id":"a-1","m":1}\n{"m":2}\n'
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstandard.compress(data) + zstandard.compress(b'{"m":3}\n')}
    path = tmp_path / f"out.ndjson{suffix}"
    path.write_bytes(packed[suffix])
    assert list(ndjson_documents(path))[:2] == [(b"a-1", b'{"_id":"a-1","m":1}'), (None, b'{"m":2}')]
    assert len(list(ndjson_documents(path))) == (3 if suffix == ".zst" else 2)


def test_only_the_containers_of_an_output_count(world: tuple[Account, list[bytes]]) -> None:
    account, documents = world
    first = account.containers[0]
    verdict = judge(account.where(lambda c: c is first), [d for d in documents if first.uid.encode() in d])
    assert verdict.ok
    assert verdict.expected == first.records


def test_what_a_life_leaves_behind_is_judged_right(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path / "pods", seed=4, settings=Settings(max_files=1000))
    life = Life(kubelet, seed=4, max_pods=4, without={"clock_step"})  # this reader orders files by name
    deleted: list[bytes] = []

    def read_then_delete(pod: Pod, *, last_words: bool = False) -> None:
        kubelet.end_pod(pod, last_words=last_words)
        deleted.extend(d for d in slow_documents(kubelet.root) if pod.plan.uid.encode() in d)
        original(pod)

    original, kubelet.delete_pod = kubelet.delete_pod, read_then_delete  # type: ignore[method-assign]
    for _ in range(300):
        life.step()
    verdict = judge(kubelet.account(), deleted + list(slow_documents(kubelet.root)))
    assert verdict.ok, str(verdict)


def test_ranges_read_short() -> None:
    assert show_ranges([1, 2, 3, 7]) == "1-3, 7"
    assert show_ranges(list(range(0, 40, 2))).endswith("18 and 10 more")
