"""Tests in several processes at once (`make test WORKERS=auto`): which stay together, and what processes keep apart.

Most end-to-end tests wait for a daemon, so cores are free meanwhile. Groups are told by the names of files: the marker
of pytest-xdist for them (`xdist_group`) does nothing with pytest 9.2, whose items have their ids elsewhere.
"""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from benchmarks.world.ports import keep_to_share

ROOT = Path(__file__).parents[1]
MOST_WORKERS = 5
TOGETHER = {  # servers of hundreds of megabytes: one process has them, and starts each once
    "search": re.compile(r"\b(elasticsearch8?|opensearch3?|opensearch_secure)_server\b"),
    "kubernetes": re.compile(r"\bkubernetes_server\b"),
}


def pytest_configure(config: pytest.Config) -> None:
    """A worker's servers have ports that no other worker gives to its own."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        keep_to_share(int(worker["workerid"].removeprefix("gw")), of=worker["workercount"])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, since most tests wait; more than a few only start more servers."""
    return min((os.cpu_count() or 1) + 1, MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> "Together":
    return Together(config, log)


class Together(LoadScopeScheduling):
    """A file's tests stay together, and so share what it makes once; end-to-end tests are each by themselves."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """Tests of one scope are run by one process."""
    path = nodeid.partition("::")[0]
    return _server_of(path) or (nodeid if path.startswith("tests/e2e/") else path)


@cache
def _server_of(path: str) -> str | None:
    """What the file's tests share with those of other files: it names the fixture."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return next((name for name, fixture in TOGETHER.items() if fixture.search(text)), None)
