"""The generator's account is what an independent reader finds in its files."""

import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.world.account import Account
from benchmarks.world.check import Checker
from benchmarks.world.generator import write_tree
from tests.benchmarks.slow_shipper import slow_documents


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    write_tree(folder, total_bytes=6 * 2**20, pods=10, seed=5)
    return folder


@pytest.fixture(scope="module")
def account(tree: Path) -> Account:
    return Account.load(tree / "account.json")


def test_every_record_of_the_account_is_in_the_files_once_and_in_order(tree: Path, account: Account) -> None:
    checker = Checker(account)
    checker.feed((None, document) for document in slow_documents(tree / "pods"))
    verdict = checker.verdict()
    assert verdict.ok, str(verdict)
    assert verdict.documents == account.records > 10_000


def test_lines_and_bytes_are_those_of_the_files(tree: Path, account: Account) -> None:
    for container in account.containers:
        folder = f"{container.namespace}_{container.pod}_{container.uid}"
        data = (tree / "pods" / folder / container.container / "0.log").read_bytes()
        assert (container.bytes, container.lines) == (len(data), data.count(b"\n"))


def test_mix_is_that_of_a_node(account: Account) -> None:
    kinds = sum((Counter(c.kinds) for c in account.containers), Counter[str]())
    share = {kind: count / account.records for kind, count in kinds.items()}
    assert share["pino"] + share["django"] + share["loguru"] + share["long_json"] == pytest.approx(0.70, abs=0.03)
    assert share["traceback"] == pytest.approx(0.055, abs=0.02)
    assert share["long_json"] + share["long_text"] == pytest.approx(0.012, abs=0.004)
    assert account.bytes / sum(c.lines for c in account.containers) == pytest.approx(356, rel=0.1)


def test_some_records_are_cut_at_the_runtimes_buffer_and_some_are_interleaved(tree: Path) -> None:
    data = b"".join(path.read_bytes() for path in sorted(tree.glob("pods/*/*/0.log")))
    parts = [line.split(b" ", 3)[3] for line in data.splitlines() if line.split(b" ", 3)[2] == b"P"]
    assert max(map(len, parts)) == pytest.approx(16384, abs=16)
    assert re.search(rb"stdout P [^\n]*\n([^ ]* stderr F [^\n]*\n){1,2}[^ ]* stdout F ", data)


def test_a_seed_gives_the_same_tree(tmp_path: Path) -> None:
    trees = []
    for name in ("a", "b"):
        write_tree(tmp_path / name, total_bytes=500_000, pods=3, seed=9)
        files = sorted((tmp_path / name).rglob("*.log"))
        trees.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert trees[0] == trees[1]
    assert len(trees[0]) == 3
