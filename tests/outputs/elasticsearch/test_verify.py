"""What is asked before a repeat, against the fake; over a real rollover: tests/contract."""

import logging
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import FaultKind
from shipper.delivery import Batch
from shipper.errors import Disconnected
from shipper.outputs.elasticsearch import verify
from shipper.outputs.elasticsearch.client import ElasticsearchClient
from shipper.outputs.elasticsearch.output import ElasticsearchOutput
from shipper.outputs.elasticsearch.verify import Verifier
from tests.outputs.elasticsearch.batches import SHORT_S, FakeHost, batch_of, config, documents

TARGET = "logs-app-default"


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as server:
        yield server


@pytest.fixture
async def output(fake: FakeElasticsearch) -> AsyncIterator[ElasticsearchOutput]:
    output = ElasticsearchOutput(config(fake.url, timeout=SHORT_S))
    await output.start(FakeHost())
    yield output
    await output.close()


async def uncertain(fake: FakeElasticsearch, output: ElasticsearchOutput) -> Batch:
    """Three documents that are there, and an answer that never came; the stream has rolled over since."""
    batch = batch_of(output, documents(3))
    fake.faults.script("applied_then_reset")
    with pytest.raises(Disconnected):
        await output.send(batch)
    fake.roll_over(TARGET)
    return batch


def ambiguous(output: ElasticsearchOutput) -> dict[str, float]:
    samples = [sample for metric in output._ambiguous.collect() for sample in metric.samples]
    return {sample.labels["outcome"]: sample.value for sample in samples}


@pytest.mark.parametrize(
    "kind", ["applied_then_hang", "applied_then_reset", "cut_answer", "cut_valid_answer", "fewer_items"]
)
async def test_after_every_kind_of_lost_answer_a_rollover_doubles_nothing(
    fake: FakeElasticsearch, output: ElasticsearchOutput, kind: FaultKind
) -> None:
    batch = batch_of(output, documents(3))
    fake.faults.script(kind)
    with pytest.raises(Disconnected):
        await output.send(batch)
    fake.roll_over(TARGET)
    delivery = await output.send(batch)
    assert (delivery.retry, delivery.duplicates) == ((), 3)
    assert set(fake.ids.values()) == {1}
    assert ambiguous(output) == {"found": 3.0}


@pytest.mark.parametrize("kind", ["hang", "reset"])
async def test_what_was_not_applied_is_sent_at_once(
    fake: FakeElasticsearch, output: ElasticsearchOutput, kind: FaultKind
) -> None:
    await output.send(batch_of(output, documents(1)))
    batch = batch_of(output, documents(3))
    fake.faults.script(kind)
    with pytest.raises(Disconnected):
        await output.send(batch)
    delivery = await output.send(batch)
    assert (delivery.retry, delivery.duplicates) == ((), 0)
    assert len(fake.ids) == 4
    assert ambiguous(output) == {"missing": 3.0}


async def test_a_rollover_at_the_very_moment_of_the_repeat_doubles_nothing(
    fake: FakeElasticsearch, output: ElasticsearchOutput
) -> None:
    """So the newest index is asked as well: it may be the newest no more when the repeat arrives."""
    batch = batch_of(output, documents(3))
    fake.faults.script("applied_then_reset", "roll_over")
    with pytest.raises(Disconnected):
        await output.send(batch)
    assert (await output.send(batch)).duplicates == 3
    assert set(fake.ids.values()) == {1}


async def test_each_of_many_unanswered_attempts_is_remembered(
    fake: FakeElasticsearch, output: ElasticsearchOutput
) -> None:
    batch = batch_of(output, documents(3))
    faults: tuple[FaultKind, ...] = ("applied_then_reset", "reset", "reset")
    for fault in faults:
        fake.faults.script(fault)
        fake.questions_status = 503  # so that no question comes between
        with pytest.raises(Disconnected):
            await output.send(batch)
        fake.roll_over(TARGET)
    fake.questions_status = 200
    assert (await output.send(batch)).duplicates == 3


async def test_an_answered_batch_is_not_asked_for(fake: FakeElasticsearch, output: ElasticsearchOutput) -> None:
    batch = batch_of(output, documents(3))
    fake.faults.script("busy", "items_busy")
    assert (await output.send(batch)).retry
    assert batch.uncertain_since is None
    assert (await output.send(batch)).retry
    assert batch.uncertain_since is None
    assert ambiguous(output) == {}


async def test_records_that_a_server_calls_unavailable_may_have_been_written(
    fake: FakeElasticsearch, output: ElasticsearchOutput
) -> None:
    batch = batch_of(output, documents(4))
    fake.faults.script("items_unavailable")
    before = time.time()
    assert len((await output.send(batch)).retry) == 2
    assert batch.uncertain_since == pytest.approx(before, abs=5)


async def test_without_the_right_to_read_the_repeat_goes_out_and_that_is_said_once(
    fake: FakeElasticsearch, output: ElasticsearchOutput, caplog: pytest.LogCaptureFixture
) -> None:
    fake.questions_status = 403
    for _ in range(2):
        batch = await uncertain(fake, output)
        assert not (await output.send(batch)).retry
    assert ambiguous(output) == {"unverified": 6.0}
    assert "lack view_index_metadata on logs-app-default" in output.status()["repeats"]
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING and "unseen" in r.message]
    assert len(warnings) == 1
    fake.questions_status = 200
    batch = await uncertain(fake, output)
    assert (await output.send(batch)).duplicates == 3
    assert output.status()["repeats"] is None


async def test_what_cannot_be_asked_now_is_asked_again(
    fake: FakeElasticsearch, output: ElasticsearchOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await uncertain(fake, output)
    fake.questions_status = 503
    for _ in range(2):
        with pytest.raises(Disconnected) as caught:
            await output.send(batch)
        assert (caught.value.reason, caught.value.ambiguous) == ("unverified", False)
    fake.questions_status = 200
    assert (await output.send(batch)).duplicates == 3
    assert set(fake.ids.values()) == {1}


async def test_an_index_that_cannot_be_asked_for_long_stops_nothing(
    fake: FakeElasticsearch, output: ElasticsearchOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await uncertain(fake, output)
    fake.questions_status = 503
    with pytest.raises(Disconnected):
        await output.send(batch)
    monkeypatch.setattr(verify, "PATIENCE_S", 0.0)
    assert not (await output.send(batch)).retry
    assert "status 503" in output.status()["repeats"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"type": "index_not_found_exception", "reason": "no such index"}, set()),
        ({"type": "security_exception", "reason": "action [indices:data/read/mget] is unauthorized"}, None),
        ({"type": "index_closed_exception", "reason": "closed"}, None),
        ({"type": "no_shard_available_action_exception", "reason": "No shard available"}, "unverified"),
    ],
)
async def test_an_error_about_a_document_is_told_apart(error: dict[str, str], outcome: object) -> None:
    """As a real server gives them, in an answer of status 200. None: nobody can know."""

    async def settings(_: web.Request) -> web.Response:
        return web.json_response({"x-000001": {"settings": {"index": {"creation_date": "1800000000000"}}}})

    async def mget(_: web.Request) -> web.Response:
        return web.json_response({"docs": [{"error": error}, {"error": error}]})

    app = web.Application()
    app.router.add_get("/{index}/_settings/index.creation_date", settings)
    app.router.add_post("/{index}/_mget", mget)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = ElasticsearchClient(config("http://{}:{}".format(*runner.addresses[0])))
    verifier = Verifier(client, output="es", default_target="x")
    batch = Batch(bytearray(b'{"create":{"_id":"1"}}\n{}\n{"create":{"_id":"2"}}\n{}\n'), [], 2, 2)
    found: object
    try:
        found = await verifier.find(batch)
    except Disconnected as exc:
        found = exc.reason
    finally:
        await client.close()
        await runner.cleanup()
    assert found == outcome
    assert bool(verifier.sentence) == (outcome is None)
