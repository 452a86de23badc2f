"""The output over a socket, against the fake: every way in which an answer can fail to come."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from isal import isal_zlib

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault, FaultKind, mixed
from shipper.body import view_of
from shipper.delivery import Batch
from shipper.errors import Disconnected
from shipper.outputs.elasticsearch.output import ElasticsearchOutput
from shipper.template import Template
from tests.outputs.elasticsearch.batches import LONG_S, SHORT_S, FakeHost, batch_of, config, documents, subset_of

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as server:
        yield server


@asynccontextmanager
async def started(*urls: str, **other: Any) -> AsyncIterator[ElasticsearchOutput]:
    output = ElasticsearchOutput(config(*urls, **other))
    await output.start(FakeHost())
    try:
        yield output
    finally:
        await output.close()


@asynccontextmanager
async def raw_server(answer: Answer) -> AsyncIterator[str]:
    """For what even the fake is too polite to do. `answer` gets POSTs only; there is no index to ask about."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(3) == b"GET":
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        else:
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def failure_of(output: ElasticsearchOutput, batch: Batch) -> Disconnected:
    with pytest.raises(Disconnected) as caught:
        await output.send(batch)
    return caught.value


def count(output: ElasticsearchOutput, status: str) -> float:
    """Of requests with this status, in the metrics."""
    value: float = output._requests.labels(output.name, status)._value.get()
    return value


def test_a_document_follows_its_frame() -> None:
    constant = ElasticsearchOutput(config("http://x", index="logs-app-default"))
    assert constant.frame("logs-app-default") == (b'{"create":{"_id":"', b'"}}\n{')
    by_namespace = ElasticsearchOutput(config("http://x", index="logs-{namespace}-default"))
    assert by_namespace.frame("logs-shop-default") == (b'{"create":{"_index":"logs-shop-default","_id":"', b'"}}\n{')


def test_without_ids_the_server_makes_its_own() -> None:
    constant = ElasticsearchOutput(config("http://x", index="logs-app-default", ids="none"))
    assert constant.frame("logs-app-default") == (None, b'{"create":{}}\n{')
    by_namespace = ElasticsearchOutput(config("http://x", index="logs-{namespace}-default", ids="none"))
    assert by_namespace.frame("logs-shop-default") == (None, b'{"create":{"_index":"logs-shop-default"}}\n{')


def test_routing_stands_beside_the_id() -> None:
    routing = Template.parse("{namespace}-{pod}")
    output = ElasticsearchOutput(config("http://x", index="logs-{namespace}", routing=routing))
    values = {"namespace": "shop", "pod": 'Ca"rt,1'}
    target = output.template.render(lambda kind, _: values[kind], style="index")
    assert target == 'logs-shop?routing=shop-Ca"rt,1'
    assert output.frame(target)[0] == b'{"create":{"_index":"logs-shop","routing":"shop-Ca\\"rt,1","_id":"'
    assert output.template.placeholders == {"namespace", "pod"}
    constant = ElasticsearchOutput(config("http://x", index="logs-app-default", routing=routing))
    assert constant.frame("logs-app-default?routing=a")[0] == b'{"create":{"routing":"a","_id":"'


async def test_a_constant_index_stands_in_the_path(fake: FakeElasticsearch) -> None:
    async with started(fake.url, index="logs-app-default", pipeline="parse") as output:
        await output.send(batch_of(output, documents(2)))
    (request,) = fake.requests
    assert request.path.startswith("/logs-app-default/_bulk?")
    assert "pipeline=parse" in request.path
    assert [write.index for write in fake.store.writes] == ["logs-app-default"] * 2


async def test_an_index_of_placeholders_stands_in_the_action_lines(fake: FakeElasticsearch) -> None:
    async with started(fake.url, index="logs-{namespace}-default") as output:
        await output.send(batch_of(output, documents(2), target="logs-shop-default"))
    assert fake.requests[0].path.startswith("/_bulk?")
    assert [write.index for write in fake.store.writes] == ["logs-shop-default"] * 2


async def test_media_types_are_plain_and_the_answer_is_small(fake: FakeElasticsearch) -> None:
    async with started(fake.url) as output:
        await output.send(batch_of(output, documents(1)))
    (request,) = fake.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["accept"] == "application/json"
    assert headers["content-type"] == "application/x-ndjson"
    assert headers["content-encoding"] == "gzip"
    assert "filter_path=errors,items.*.status,items.*.error,items.*.failure_store" in request.path


async def test_a_body_is_one_gzip_member_or_plain(fake: FakeElasticsearch) -> None:
    for compression in ("gzip", "none"):
        async with started(fake.url, compression=compression) as output:
            batch = batch_of(output, documents(50))
            await output.send(batch)
            unpacked = len(batch.body)
        assert fake.requests[-1].unpacked_size == unpacked
    packed, plain = fake.requests
    assert packed.size < plain.size / 3
    assert plain.size == plain.unpacked_size
    assert isal_zlib.decompress(isal_zlib.compress(bytes(view_of(batch.body)), 1, 31), 31) == bytes(view_of(batch.body))


async def test_the_body_can_be_changed_after_the_answer(fake: FakeElasticsearch) -> None:
    async with started(fake.url, compression="none") as output:
        batch = batch_of(output, documents(5000))
        await output.send(batch)
        del batch.body[:]
    assert len(fake.store.writes) == 5000


async def test_each_request_is_counted_by_its_status(fake: FakeElasticsearch) -> None:
    fake.faults.script("busy", "reset", "hang", None)
    async with started(fake.url, timeout=SHORT_S) as output:
        batch = batch_of(output, documents(3))
        assert (await output.send(batch)).reason == "throttled"
        assert (await failure_of(output, batch)).reason == "reset"
        assert (await failure_of(output, batch)).reason == "timeout"
        assert not (await output.send(batch)).retry
        assert [count(output, status) for status in ("200", "429", "error", "timeout")] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("kind", "reason", "ambiguous", "stored"),
    [
        ("hang", "timeout", True, 0),
        ("applied_then_hang", "timeout", True, 3),
        ("reset", "reset", True, 0),
        ("applied_then_reset", "reset", True, 3),
        ("cut_answer", "reset", True, 3),
        ("cut_valid_answer", "unreadable", True, 3),
        ("fewer_items", "incomplete", True, 3),
        ("proxy_page", "http_502", True, 0),
        ("unauthorized", "auth", False, 0),
        ("forbidden", "forbidden", False, 0),
    ],
)
async def test_no_usable_answer_means_that_all_is_sent_again(
    fake: FakeElasticsearch, kind: FaultKind, reason: str, ambiguous: bool, stored: int
) -> None:
    fake.faults.script(kind)
    async with started(fake.url, timeout=SHORT_S if reason == "timeout" else LONG_S) as output:
        batch = batch_of(output, documents(3))
        failure = await failure_of(output, batch)
        assert (failure.reason, failure.ambiguous) == (reason, ambiguous)
        assert len(fake.store.writes) == stored
        delivery = await output.send(batch)
    assert (delivery.retry, delivery.rejected, delivery.duplicates) == ((), (), stored)
    assert set(fake.ids.values()) == {1}


async def test_a_slow_answer_is_waited_for(fake: FakeElasticsearch) -> None:
    fake.faults.script(Fault("slow", delay_s=0.2))
    async with started(fake.url, timeout=LONG_S) as output:
        assert not (await output.send(batch_of(output, documents(3)))).retry


@pytest.mark.parametrize("kind", ["busy", "unavailable"])
async def test_the_wish_of_a_busy_server_is_passed_on(fake: FakeElasticsearch, kind: FaultKind) -> None:
    fake.faults.script(Fault(kind, retry_after="12"), Fault(kind))
    async with started(fake.url) as output:
        batch = batch_of(output, documents(3))
        assert (await output.send(batch)).delay_s == 12.0
        assert (await output.send(batch)).delay_s is None


@pytest.mark.parametrize("kind", ["items_busy", "items_unavailable", "items_blocked", "items_rejected"])
async def test_only_the_items_that_failed_are_not_delivered(fake: FakeElasticsearch, kind: FaultKind) -> None:
    fake.faults.script(kind)
    async with started(fake.url) as output:
        delivery = await output.send(batch_of(output, documents(10)))
    assert len(delivery.retry) + len(delivery.rejected) == 5
    assert bool(delivery.rejected) == (kind == "items_rejected")
    assert len(fake.store.writes) == 5


async def test_documents_in_the_failure_store_are_counted(fake: FakeElasticsearch) -> None:
    fake.faults.script("failure_store")
    async with started(fake.url) as output:
        assert (await output.send(batch_of(output, documents(10)))).failure_store == 5


async def test_a_refusal_by_size_is_split(fake: FakeElasticsearch) -> None:
    fake.max_content_length = 1000
    async with started(fake.url, compression="none") as output:
        assert (await output.send(batch_of(output, documents(100)))).split
        assert not (await output.send(batch_of(output, documents(1)))).split


async def test_a_server_that_takes_nothing_at_all_makes_no_dead_letters(fake: FakeElasticsearch) -> None:
    """Halving finds the bad record only where good ones pass."""
    fake.faults.script("malformed", None, "malformed")
    async with started(fake.url) as output:
        batch = batch_of(output, documents(2))
        assert (await failure_of(output, batch)).reason == "http_400"
        assert not (await output.send(batch)).split
        assert (await output.send(batch)).split


async def test_nothing_is_sent_where_nobody_listens() -> None:
    async with FakeElasticsearch() as gone:
        url = gone.url
    async with started(url) as output:
        failure = await failure_of(output, batch_of(output, documents(1)))
    assert (failure.reason, failure.ambiguous) == ("refused", False)


async def test_a_name_that_is_not_known_is_told_apart() -> None:
    async with started("http://no-such-host.invalid:9200") as output:
        failure = await failure_of(output, batch_of(output, documents(1)))
    assert (failure.reason, failure.ambiguous) == ("dns", False)


async def test_https_against_http_is_told_apart(fake: FakeElasticsearch) -> None:
    async with started(fake.url.replace("http:", "https:")) as output:
        assert (await failure_of(output, batch_of(output, documents(1)))).reason == "tls"


async def test_a_dead_host_costs_no_batch_a_wait(fake: FakeElasticsearch) -> None:
    """Nothing was applied where no connection came about, so the next host is asked at once."""
    async with FakeElasticsearch() as gone, FakeElasticsearch() as alive:
        urls = (fake.url, gone.url, alive.url)
        await gone.stop()
        async with started(*urls) as output:
            for _ in range(12):
                assert not (await output.send(batch_of(output, documents(1)))).retry
    assert len(fake.store.writes) + len(alive.store.writes) == 12
    assert min(len(fake.store.writes), len(alive.store.writes)) >= 4


async def test_where_every_host_is_dead_that_is_said_once_each_was_tried() -> None:
    async with FakeElasticsearch() as one, FakeElasticsearch() as other:
        urls = (one.url, other.url)
    async with started(*urls) as output:
        assert (await failure_of(output, batch_of(output, documents(1)))).reason == "refused"


async def test_a_host_that_died_is_used_again_when_it_is_back(fake: FakeElasticsearch) -> None:
    async with FakeElasticsearch() as other:
        port = other.port
        async with started(fake.url, other.url) as output:
            await other.stop()
            for _ in range(4):
                await output.send(batch_of(output, documents(1)))
            await other.start(port)
            before = len(other.requests)
            async with asyncio.timeout(LONG_S):
                while len(other.requests) == before:  # it is set aside for a second
                    await output.send(batch_of(output, documents(1)))


async def test_a_request_that_may_have_been_applied_is_not_sent_to_the_next_host(fake: FakeElasticsearch) -> None:
    async with FakeElasticsearch() as other, started(fake.url, other.url) as output:
        for server in (fake, other):
            server.faults.script("applied_then_reset")
        assert (await failure_of(output, batch_of(output, documents(1)))).reason == "reset"
        assert len(fake.requests) + len(other.requests) == 1


async def test_after_a_reset_the_server_is_asked_before_the_body_is_sent() -> None:
    """So that a refusal by size can be read: a server that closes while it is being sent to loses its own answer."""
    attempts = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        attempts.append(b"expect: 100-continue" in head)
        if attempts[-1]:
            writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        else:
            writer.transport.abort()

    async with raw_server(refuse) as url, started(url, compression="none") as output:
        batch = batch_of(output, [b'{"m":"' + b"x" * 3_000_000 + b'"}'])
        assert (await failure_of(output, batch)).reason == "reset"
        assert (await output.send(batch)).split
        assert attempts == [False, True]


async def test_a_server_that_does_not_understand_being_asked_gets_the_body_next_time(fake: FakeElasticsearch) -> None:
    asked = []

    async def ignore_the_question(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        asked.append(b"expect: 100-continue" in head)
        if asked[-1]:
            await reader.read()  # waits for a body that waits for its word
        else:
            writer.transport.abort()

    async with raw_server(ignore_the_question) as url, started(url, timeout=SHORT_S) as output:
        batch = batch_of(output, documents(1))
        reasons = [(await failure_of(output, batch)).reason for _ in range(3)]
    assert reasons == ["reset", "timeout", "reset"]
    assert asked == [False, True, False]


async def test_cancelling_a_send_leaves_the_output_usable(fake: FakeElasticsearch) -> None:
    fake.faults.script("hang")
    async with started(fake.url) as output:
        batch = batch_of(output, documents(3))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await output.send(batch)
        assert not (await output.send(batch)).retry


async def test_under_every_fault_each_document_is_stored_once(fake: FakeElasticsearch) -> None:
    kinds: tuple[FaultKind, ...] = (
        "busy",
        "unavailable",
        "proxy_page",
        "items_busy",
        "items_unavailable",
        "fewer_items",
        "applied_then_reset",
        "reset",
        "cut_answer",
        "cut_valid_answer",
        "roll_over",
        "applied_then_rolled_over",
    )
    fake.faults.chances = mixed(kinds, 0.8)
    async with started(fake.url) as output:
        for _ in range(40):
            batch = batch_of(output, documents(10))
            while batch.records:
                try:
                    batch = subset_of(batch, (await output.send(batch)).retry)
                except Disconnected:
                    continue
    assert len(fake.ids) == 400
    assert set(fake.ids.values()) == {1}
    assert set(fake.faults.injected) == set(kinds)


@pytest.mark.parametrize("kind", ["busy", "too_large"])
async def test_a_busy_host_is_not_set_aside(fake: FakeElasticsearch, kind: FaultKind) -> None:
    async with FakeElasticsearch() as other, started(fake.url, other.url) as output:
        fake.faults.script(*[kind] * 4)
        for _ in range(8):
            await output.send(batch_of(output, documents(1)))
        assert len(fake.requests) == len(other.requests) == 4


async def test_the_library_says_nothing_of_each_request(
    fake: FakeElasticsearch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with started(fake.url) as output:
        await output.send(batch_of(output, documents(1)))
    assert [record for record in caplog.records if record.name.startswith("elastic")] == []


async def test_status_holds_no_secret(fake: FakeElasticsearch) -> None:
    async with started(fake.url) as output:
        assert output.status()["last_answer"] is None
        await output.send(batch_of(output, documents(1)))
        status = output.status()
    assert status["hosts"] == [fake.url]
    assert status["last_answer"] > 0
