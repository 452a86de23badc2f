"""The daemon's HTTP server: what it says, and that nobody can harm it."""

import asyncio
import gzip
import logging
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from shipper.errors import ShipperError
from shipper.health import Health
from shipper.metrics import Metrics, Sample
from shipper.page import POLICY
from shipper.server import LONGEST_LINE_BYTES, MOST_CONNECTIONS, HttpServer
from shipper.service import HttpConfig
from shipper.values import Secret
from tests.test_page import STATUS

OK = Health(ok=True)
Serve = Callable[..., Awaitable[HttpServer]]


class Action:
    """What a request asks for: counted."""

    def __init__(self, status: int = 200) -> None:
        self.calls, self.status = 0, status

    async def __call__(self) -> tuple[int, dict[str, Any]]:
        self.calls += 1
        return self.status, {"result": "done"}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server on a free port of the loopback address; what is not given is well and empty."""
    servers: list[HttpServer] = []

    async def start(listen: str = "127.0.0.1:0", **given: Any) -> HttpServer:
        parts: dict[str, Any] = {
            "metrics": Metrics(),
            "health": lambda: OK,
            "ready": lambda: OK,
            "status": dict,
            "audit": dict,
            "reload": Action(),
        }
        server = HttpServer(HttpConfig(listen=listen, token=given.pop("token", None)), **parts | given)
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


async def get(
    server: HttpServer, path: str, *, method: str = "GET", host: str = "127.0.0.1", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body as it was sent, headers."""
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=("Accept-Encoding",)) as session,
        session.request(method, f"http://{host}:{server.port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.read(), dict(answer.headers)


async def send(server: HttpServer, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_metrics_are_prometheus_text_and_openmetrics_by_request(serve: Serve) -> None:
    metrics = Metrics()
    metrics.output_records.labels("es", "delivered").inc(3)
    server = await serve(metrics=metrics)

    _, body, headers = await get(server, "/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = [sample for family in parse_text(body.decode()) for sample in family.samples]
    assert ("shipper_output_records_total", {"name": "es", "fate": "delivered"}, 3.0) in [s[:3] for s in samples]

    _, body, headers = await get(server, "/metrics", Accept="application/openmetrics-text;version=1.0.0;q=0.5")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    assert "shipper_output_records" in [family.name for family in families]


async def test_metrics_are_gzipped_when_asked_for(serve: Serve) -> None:
    server = await serve()
    _, plain, _ = await get(server, "/metrics")
    _, packed, headers = await get(server, "/metrics", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert len(packed) < len(plain)
    assert gzip.decompress(packed) == plain


async def test_gauges_are_read_at_each_scrape(serve: Serve) -> None:
    metrics, values = Metrics(), iter((1.0, 2.0))
    metrics.add_gauges(lambda: [Sample("shipper_backlog_bytes", ("es",), next(values))])
    server = await serve(metrics=metrics)
    for expected in (1, 2):
        _, body, _ = await get(server, "/metrics")
        assert f'shipper_backlog_bytes{{name="es"}} {expected}.0' in body.decode()


async def test_accept_header_that_makes_no_sense_is_refused_quietly(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    status, _, _ = await get(server, "/metrics", Accept="text/plain;version=abc")
    assert status == 406
    assert not caplog.records


async def test_metrics_pass_promtool(serve: Serve, prometheus_tools: Path) -> None:
    server = await serve()
    _, body, _ = await get(server, "/metrics")
    checked = subprocess.run([prometheus_tools, "check", "metrics"], input=body, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize(("path", "name"), [("/healthz", "health"), ("/readyz", "ready")])
async def test_probe_says_why_it_fails(serve: Serve, path: str, name: str) -> None:
    answers = {"health": OK, "ready": OK}
    server = await serve(health=lambda: answers["health"], ready=lambda: answers["ready"])
    assert (await get(server, path))[:2] == (200, b'{"ok":true,"reasons":[]}')

    answers[name] = Health(ok=False, reasons=["the input pods makes no progress"])
    assert (await get(server, path))[:2] == (503, b'{"ok":false,"reasons":["the input pods makes no progress"]}')


@pytest.mark.parametrize("name", ["status", "audit"])
async def test_status_and_audit_are_json_for_tools_and_for_people(serve: Serve, name: str) -> None:
    value = {"outputs": {"es": {"state": "retrying", 1: None}}}
    server = await serve(**{name: lambda: value})
    status, body, headers = await get(server, f"/api/v1/{name}")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert body == b'{"outputs":{"es":{"state":"retrying","1":null}}}\n'

    _, pretty, _ = await get(server, f"/api/v1/{name}?pretty")
    assert pretty.splitlines()[1] == b'  "outputs": {'
    assert orjson.loads(pretty) == orjson.loads(body)


async def test_names_that_are_no_utf_8_are_shown_as_escapes(serve: Serve) -> None:
    server = await serve(status=lambda: {"files": [{"path": "/log/\udcff", "size": 1}], "unreadable": {"\udc80": "😀"}})
    status, body, _ = await get(server, "/api/v1/status")
    shown = {"files": [{"path": "/log/\\udcff", "size": 1}], "unreadable": {"\\udc80": "😀"}}
    assert (status, orjson.loads(body)) == (200, shown)


async def test_page_links_to_all_that_there_is_and_loads_nothing(serve: Serve) -> None:
    server = await serve(status=lambda: STATUS)
    for path in ("/", "/?still"):
        _, body, headers = await get(server, path)
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Content-Security-Policy"] == POLICY
        links = [part.split(b'"')[0].decode() for part in body.split(b'href="')[1:]]
        assert len(links) == 6
        for link in links:
            assert (await get(server, link))[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/audit"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(serve: Serve, path: str, method: str) -> None:
    assert (await get(await serve(), path, method=method))[0] == 405


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refused(metrics: Metrics, reason: str) -> float:
    return float(metrics.http_refused.labels(reason)._value.get())


@pytest.mark.parametrize(("status", "said"), [(200, 200), (422, 422), (409, 409)])
async def test_whoever_knows_the_token_may_reload(serve: Serve, status: int, said: int) -> None:
    action = Action(status)
    server = await serve(token=Secret("hunter2"), reload=action)
    answer, body, headers = await get(server, "/api/v1/reload", method="POST", **bearer("hunter2"))
    assert (answer, orjson.loads(body), headers["Content-Type"]) == (said, {"result": "done"}, "application/json")
    assert action.calls == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("hunter"),
        bearer("hunter22"),
        bearer("HUNTER2"),
        {"Authorization": "hunter2"},
        {"Authorization": "Basic hunter2"},
        {"Authorization": "Bearer hünter2"},
        {"X-Token": "hunter2"},
    ],
    ids=str,
)
async def test_whoever_does_not_know_the_token_changes_nothing(
    serve: Serve, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    action, metrics = Action(), Metrics()
    server = await serve(token=Secret("hunter2"), reload=action, metrics=metrics)
    status, body, answered = await get(server, "/api/v1/reload", method="POST", **headers)
    assert (status, answered["WWW-Authenticate"], action.calls) == (401, "Bearer", 0)
    assert refused(metrics, "unauthorized") == 1
    assert b"hunter2" not in body
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("token", [None, Secret(""), Secret(None)])
async def test_without_a_token_nobody_may_reload(serve: Serve, token: Secret | None) -> None:
    action, metrics = Action(), Metrics()
    server = await serve(token=token, reload=action, metrics=metrics)
    for headers in ({}, bearer(""), bearer("x")):
        assert (await get(server, "/api/v1/reload", method="POST", **headers))[0] == 403
    assert (action.calls, refused(metrics, "no_token")) == (0, 3)


async def test_a_token_that_was_replaced_in_its_file_is_the_one_asked_for(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    server = await serve(token=Secret(file=str(file)))
    assert (await get(server, "/api/v1/reload", method="POST", **bearer("old")))[0] == 200
    file.write_text("new\n")
    assert (await get(server, "/api/v1/reload", method="POST", **bearer("new")))[0] == 200
    assert (await get(server, "/api/v1/reload", method="POST", **bearer("old")))[0] == 401
    file.unlink()
    assert (await get(server, "/api/v1/reload", method="POST", **bearer("new")))[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_only_post_reloads(serve: Serve, method: str) -> None:
    action = Action()
    server = await serve(token=Secret("hunter2"), reload=action)
    assert (await get(server, "/api/v1/reload", method=method, **bearer("hunter2")))[0] == 405
    assert action.calls == 0


async def test_a_reloads_body_is_not_read(serve: Serve) -> None:
    server = await serve(token=Secret("hunter2"))
    head = b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hunter2\r\n"
    reader, writer = await send(server, head + b"Content-Length: 1000000000\r\n\r\nx")
    assert (await read_to_end(reader)).startswith(b"HTTP/1.1 200")
    writer.close()


REQUESTS = st.one_of(
    st.binary(max_size=300),
    st.builds(
        b"%s %s HTTP/1.%d\r\n%s\r\n%s".__mod__,
        st.tuples(
            st.sampled_from([b"GET", b"POST", b"HEAD", b"CONNECT", b"get", b"\x00", b"PRI"]),
            st.one_of(
                st.sampled_from(
                    [b"/", b"/metrics", b"/api/v1/status?pretty", b"/api/v1/reload", b"*", b"//x/..", b"http://a"]
                ),
                st.binary(max_size=40),
            ),
            st.integers(0, 9),
            st.lists(
                st.one_of(
                    st.sampled_from(
                        [
                            b"Host: x\r\n",
                            b"Content-Length: 5\r\n",
                            b"Content-Length: -1\r\n",
                            b"Content-Length: 99999999999999999999\r\n",
                            b"Transfer-Encoding: chunked\r\n",
                            b"Expect: 100-continue\r\n",
                            b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
                            b"Range: bytes=0-\r\n",
                            b"Accept: */*;q=x\r\n",
                            b"Accept-Encoding: gzip, br, \xff\r\n",
                            b"Authorization: Bearer \xff\xfe\r\n",
                        ]
                    ),
                    st.binary(max_size=40),
                ),
                max_size=5,
            ).map(b"".join),
            st.binary(max_size=60),
        ),
    ),
)


async def test_whatever_is_sent_harms_nothing_and_the_next_one_is_served(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    action, metrics = Action(), Metrics()
    parts: dict[str, Any] = {"reload": action, "metrics": metrics, "status": lambda: STATUS}
    server = await serve(token=Secret("hunter2"), longest_connection_s=0.05, **parts)
    found: list[bytes] = []

    @settings(max_examples=300, deadline=None, database=None)
    @given(REQUESTS)
    def collect(request: bytes) -> None:
        found.append(request)

    collect()
    for request in found:
        reader, writer = await send(server, request)
        answer = await read_to_end(reader)
        writer.close()
        assert not answer or answer.startswith(b"HTTP/")
        assert b"500 " not in answer.partition(b"\r\n")[0], request
        assert b"Traceback" not in answer
    assert action.calls == 0
    assert refused(metrics, "malformed") > 0
    assert {record.message for record in caplog.records} <= {"a request was refused that would have changed something"}
    assert (await get(server, "/healthz"))[0] == 200
    assert repr(server).endswith((" 0 connections>", " 1 connections>"))


async def test_no_answer_tells_versions(serve: Serve) -> None:
    server = await serve()
    for request in (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\r\n\r\n",
    ):
        reader, writer = await send(server, request)
        answer = await read_to_end(reader)
        writer.close()
        assert answer.startswith(b"HTTP/1.")
        assert b"Server: shipper\r\n" in answer
        assert b"aiohttp" not in answer
        assert b"Python" not in answer


async def test_failing_callable_is_an_error_without_its_text(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("hunter2")

    status, body, _ = await get(await serve(status=fail), "/api/v1/status")
    assert status == 500
    assert b"hunter2" not in body
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 2 * LONGEST_LINE_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 2 * LONGEST_LINE_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: x\r\n" % i for i in range(200)) + b"\r\n",
    ],
    ids=["long path", "long header", "many headers"],
)
async def test_oversized_request_is_refused(serve: Serve, request_: bytes) -> None:
    reader, writer = await send(await serve(), request_)
    assert (await read_to_end(reader)).startswith(b"HTTP/1.0 400")
    writer.close()


async def test_body_is_not_read(serve: Serve) -> None:
    reader, writer = await send(
        await serve(), b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx"
    )
    assert (await read_to_end(reader)).startswith(b"HTTP/1.1 200")  # and the connection has ended
    writer.close()


@pytest.mark.parametrize(
    "beginning", [b"", b"GET /healthz HTTP/1.1\r\nHos", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
)
async def test_slow_request_ends_in_time(serve: Serve, beginning: bytes) -> None:
    server = await serve(longest_connection_s=0.1)
    reader, writer = await send(server, beginning)
    await read_to_end(reader)
    writer.close()
    assert repr(server).endswith(" 0 connections>")


async def test_slow_reader_ends_in_time(serve: Serve) -> None:
    server = await serve(status=lambda: ["x" * 1_000] * 20_000, longest_connection_s=0.3)
    reader, writer = await send(server, b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    while server._connections:
        await asyncio.sleep(0.01)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await read_to_end(reader)) < 20_000_000
    writer.close()


async def test_slow_clients_do_not_keep_a_probe_out(serve: Serve) -> None:
    server = await serve()
    slow = [await send(server, b"GET / HT") for _ in range(MOST_CONNECTIONS + 10)]
    assert (await get(server, "/healthz"))[0] == 200
    assert len(server._connections) <= MOST_CONNECTIONS
    for reader, writer in slow[:10]:  # the oldest had to give way
        assert await read_to_end(reader) == b""
        writer.close()
    for _, writer in slow[10:]:
        writer.close()


async def test_connection_carries_one_request(serve: Serve) -> None:
    reader, writer = await send(await serve(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    answer = await read_to_end(reader)
    writer.close()
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close\r\n" in answer


async def test_it_listens_on_ipv6(serve: Serve) -> None:
    try:
        server = await serve(listen="[::1]:0")
    except ShipperError as exc:
        pytest.skip(f"this machine has no IPv6 loopback address: {exc}")
    assert (await get(server, "/healthz", host="[::1]"))[0] == 200


async def test_taken_port_is_a_sentence_that_says_what_to_do(serve: Serve) -> None:
    first = await serve()
    with pytest.raises(ShipperError) as caught:
        await serve(listen=f"127.0.0.1:{first.port}")
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{first.port}: another process listens there; "
        "set service.http.listen to another address, or service.http to off"
    )


async def test_close_ends_open_connections(serve: Serve) -> None:
    server = await serve()
    reader, writer = await send(server, b"GET / HT")
    while not server._connections:
        await asyncio.sleep(0)
    await server.close()
    assert await read_to_end(reader) == b""
    writer.close()
