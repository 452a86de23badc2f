"""Which servers the tests can ask for, and what asking for one means."""

import os
from collections.abc import Generator
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

SERVER_FIXTURES = frozenset(
    {
        "elasticsearch_server",
        "elasticsearch8_server",
        "kubernetes_server",
        "opensearch_server",
        "opensearch3_server",
        "opensearch_secure_server",
        "seaweedfs_server",
    }
)
SERVER_TIMEOUT_S = 600  # a server's start counts against the first test that asks for it
MISSING = "is not installed here"  # in the reason of every skip for want of a server that CI has

# CI draws the same examples each time, so that it fails for what has changed; `make fuzz` draws new ones
settings.register_profile(
    "tests",
    deadline=None,
    print_blob=True,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],  # which judges the machine
)
settings.load_profile("tests")

pytest_plugins = [
    "tests.servers.elasticsearch",
    "tests.servers.kubernetes",
    "tests.servers.moto",
    "tests.servers.opensearch",
    "tests.servers.prometheus",
    "tests.servers.seaweedfs",
]
if find_spec("xdist"):  # one process is enough for tests
    pytest_plugins.append("tests.side_by_side")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVER_FIXTURES & _fixtures_asked_for(item):
            item.add_marker("servers")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SERVER_TIMEOUT_S))


def _fixtures_asked_for(item: pytest.Item) -> set[str]:
    """By name, or as a parameter that becomes `request.getfixturevalue(parameter)`."""
    if not isinstance(item, pytest.Function):
        return set()
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {*item.fixturenames, *(each for each in parameters if isinstance(each, str))}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, a server that is missing is a failure: a green run must not hide that it was not tried."""
    report = yield
    if report.skipped and MISSING in str(report.longrepr) and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
