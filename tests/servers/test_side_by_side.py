"""Tests in several processes: those of one large server stay together, and no two processes give the same port."""

import pytest

from benchmarks.world import ports
from tests.side_by_side import scope_of


def test_whoever_asks_for_the_same_large_server_stays_together() -> None:
    search = ("contract/test_elasticsearch.py", "e2e/test_search_servers.py", "servers/test_real_servers.py")
    assert {scope_of(f"tests/{path}::test_x") for path in search} == {"search"}
    assert scope_of("tests/filters/kubernetes/test_real_api.py::test_x") == "kubernetes"


def test_other_files_stay_whole_and_end_to_end_tests_are_each_by_themselves() -> None:
    assert scope_of("tests/test_page.py::test_x") == scope_of("tests/test_page.py::test_y") != scope_of(__file__)
    assert scope_of("tests/e2e/test_stop.py::test_x") != scope_of("tests/e2e/test_stop.py::test_y")


def test_the_shares_of_processes_are_all_ports_and_none_is_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    whole = ports._ports
    for index in range(3):
        monkeypatch.setattr(ports, "_ports", whole)
        ports.keep_to_share(index, of=3)
        shares.append(set(ports._ports))
    assert sum(map(len, shares)) == len(set.union(*shares)) == len(whole)
