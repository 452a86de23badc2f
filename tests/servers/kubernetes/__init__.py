"""A real Kubernetes control plane without a kubelet: kwok, which pretends to be one, makes pods Running.

It is built from Go modules, once (`build.sh`), and tests that need it are skipped where it is not built.
"""

from collections.abc import Iterator

import pytest

from tests.servers.kubernetes.control_plane import BINARIES, FOLDER, ControlPlane


@pytest.fixture(scope="session")
def kubernetes_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One for the whole run: use namespaces of your own, and leave the API server running."""
    missing = [name for name in BINARIES if not (FOLDER / name).exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not built here: tests/servers/kubernetes/build.sh (6 minutes, once)")
    server = ControlPlane(tmp_path_factory.mktemp("kubernetes"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
