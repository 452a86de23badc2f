"""A command finds the daemon that runs beside it, or says why not."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.world.ports import free_port
from shipper.ask import NoAnswer, ask_daemon


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
def test_it_is_asked_where_it_listens(host: str) -> None:
    with answering(200, b'{"state_dir": "/state", "accounts": []}') as port:
        assert ask_daemon(f"{host}:{port}", "/x", state_dir="/state")["accounts"] == []


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b'{"state_dir": "/other"}', "another state directory"),
        (200, b"[]", "another state directory"),
        (200, b"<html>", "is no shipper"),
        (404, b"{}", "says 404"),
    ],
)
def test_another_server_in_its_place_is_not_believed(status: int, body: bytes, why: str) -> None:
    with answering(status, body) as port, pytest.raises(NoAnswer, match=why):
        ask_daemon(f"127.0.0.1:{port}", "/x", state_dir="/state")


def test_nobody_who_answers_is_said() -> None:
    with pytest.raises(NoAnswer, match="no daemon answers at 127"):
        ask_daemon(f"127.0.0.1:{free_port()}", "/x", state_dir="/state")
