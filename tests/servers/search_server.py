"""What Elasticsearch and OpenSearch have in common as child processes of a test."""

import base64
import http.client
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.world.ports import free_port

HEAP = "512m"
START_TIMEOUT_S = 150
STOP_TIMEOUT_S = 30


class SearchServer(ABC):
    """One node, in a session of its own; its data stay in `folder` over `stop`, `kill` and `start`.

    `user` may do everything. `writer_user` may only append to `logs-*` and create those indices; `shipper_user`, whose
    password is the same, also has what docs/elasticsearch.md asks for to repeat a request safely.
    """

    user = "admin_user"
    password = "admin-secret"
    writer_user = "writer_user"
    writer_password = "writer-secret"
    shipper_user = "shipper_user"
    scheme = "http"
    ca_file: Path | None = None

    def __init__(self, folder: Path, home: Path, settings: Mapping[str, object] | None = None) -> None:
        """`settings` are added to the server's own configuration file (`{"http.max_content_length": "1mb"}`)."""
        self.folder, self.home = folder, home
        self.port = free_port()
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        self.settings: dict[str, object] = {
            "discovery.type": "single-node",
            "node.name": "n1",
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": free_port(),
            "path.data": str(folder / "data"),
            "path.logs": str(folder / "logs"),
            "cluster.routing.allocation.disk.threshold_enabled": False,
            **self.own_settings(),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.home.name} {self.url} {'runs' if self.is_running else 'is down'}>"

    @abstractmethod
    def own_settings(self) -> Mapping[str, object]: ...

    @abstractmethod
    def prepare(self, config: Path) -> None:
        """Writes what the server reads at its start, below `config`."""

    @abstractmethod
    def command(self, config: Path) -> list[str]: ...

    @abstractmethod
    def environment(self, config: Path) -> Mapping[str, str]: ...

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when the node is ready for requests; RuntimeError with the end of its log when it never is."""
        config = self.folder / "config"
        for path in (config, self.folder / "data", self.folder / "logs", self.folder / "tmp"):
            path.mkdir(parents=True, exist_ok=True)
        self.prepare(config)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_another_user(), *self.command(config)],
                cwd=self.folder,
                env={**os.environ, **self.environment(config)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready(time.monotonic() + START_TIMEOUT_S)

    def stop(self) -> None:
        """SIGTERM; SIGKILL to the whole session when that does not help."""
        if self._process is not None and self.is_running:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and what it started: a crash."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self._process.wait()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = 30,
    ) -> bytes:
        """One JSON request, as the powerful user by default; the answer's body. urllib's HTTPError for 4xx and 5xx."""
        token = base64.b64encode(f"{user or self.user}:{password or self.password}".encode()).decode()
        headers = {"authorization": f"Basic {token}", "content-type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:
            content: bytes = answer.read()
        return content

    def _is_ready(self) -> bool:
        try:
            self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=5s", timeout_s=10)
        except (OSError, http.client.HTTPException):  # also 401 and 503 while it makes its security index
            return False
        return True

    def _wait_until_ready(self, deadline: float) -> None:
        while not self._is_ready():
            if not self.is_running or time.monotonic() > deadline:
                self.kill()
                log = (self.folder / "server.log").read_text(errors="replace")
                raise RuntimeError(f"{self.home.name} did not start:\n{log[-4000:]}")
            time.sleep(0.1)


Server = TypeVar("Server", bound=SearchServer)


def run(kind: type[Server], home: Path, factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The body of a fixture: a server that runs until the last test is done."""
    if not home.exists():
        pytest.skip(f"{home.name} is not installed here: make servers")
    server = kind(factory.mktemp(home.name), home)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _as_another_user() -> list[str]:
    """Both servers refuse uid 0. In a user namespace they see uid 1000, and root's files as their own."""
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
