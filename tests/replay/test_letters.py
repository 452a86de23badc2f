"""Replaying dead letters: what is mended by now is taken, once; what is not stays."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault
from shipper.config.loader import load_text
from shipper.config.model import Config
from shipper.dead_letters import DeadLetter, DeadLetters
from shipper.errors import ShipperError
from shipper.replay import letters
from shipper.replay.letters import replay_letters
from shipper.replay.sender import NothingTaken

INDEX = "logs-shop-default"


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as server:
        yield server


def config_for(folder: Path, url: str, *, more: str = "") -> Config:
    return load_text(f"""
service: {{state_dir: {folder}, http: off}}
inputs: [{{type: tail, path: ["/logs/*.log"]}}]
outputs:
  - {{type: elasticsearch, name: es, hosts: ["{url}"], index: "logs-{{namespace}}-default",
     retry: {{initial: 10ms, max: 20ms}}{more}}}
  - {{type: file, name: files, path: "{folder}/out.ndjson"}}
""")


def letter(
    number: int,
    *,
    output: str = "es",
    reason: str = "mapping",
    namespace: str = "shop",
    document: bytes | None = None,
    document_id: str | None = "",
) -> DeadLetter:
    return DeadLetter(
        time=float(number),
        output=output,
        reason=reason,
        target=INDEX,
        namespace=namespace,
        pod="cart",
        container="app",
        path="/var/log/pods/shop_cart_u/app/0.log",
        generation=1,
        begin=number * 100,
        end=number * 100 + 100,
        source_bytes=100,
        document=document or b'{"@timestamp":"2026-11-21T10:00:00Z","n":%d}' % number,
        document_id=f"1f-ab-{number * 100:x}-{number * 100 + 100:x}" if document_id == "" else document_id,
    )


def put(folder: Path, *letters: DeadLetter) -> None:
    with closing(DeadLetters.open(folder, 1 << 24)) as store:
        store.add(letters)


def waiting(folder: Path) -> list[int]:
    with closing(DeadLetters.open_beside(folder)) as store:
        return [one.begin // 100 for one in store.select(limit=10_000)]


async def test_letters_are_delivered_as_they_were_and_marked(tmp_path: Path, fake: FakeElasticsearch) -> None:
    put(tmp_path, letter(1), letter(2))
    assert await replay_letters(config_for(tmp_path, fake.url)) == (2, 0)
    assert waiting(tmp_path) == []
    assert [(w.index, w.id) for w in fake.store.writes] == [(INDEX, "1f-ab-64-c8"), (INDEX, "1f-ab-c8-12c")]
    assert fake.documents() == [{"@timestamp": "2026-11-21T10:00:00Z", "n": n} for n in (1, 2)]


async def test_replay_of_what_was_replayed_does_nothing(tmp_path: Path, fake: FakeElasticsearch) -> None:
    put(tmp_path, letter(1))
    config = config_for(tmp_path, fake.url)
    await replay_letters(config)
    assert await replay_letters(config) == (0, 0)
    assert len(fake.requests) == 1


async def test_document_that_is_there_already_counts_as_delivered(tmp_path: Path, fake: FakeElasticsearch) -> None:
    config = config_for(tmp_path, fake.url)
    put(tmp_path, letter(1))
    await replay_letters(config)
    put(tmp_path, letter(1))  # rejected once more, or replayed by a command that was killed before it could mark it
    assert await replay_letters(config) == (1, 0)
    assert set(fake.ids.values()) == {1}
    assert waiting(tmp_path) == []


async def test_a_replay_that_was_killed_midway_doubles_nothing_even_if_the_index_has_rolled_over(
    tmp_path: Path, fake: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, *(letter(n) for n in range(4)))
    config = config_for(tmp_path, fake.url)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetters, "mark_replayed", killed)
        with pytest.raises(BaseException) as caught:  # noqa: PT011  in a group
            await replay_letters(config)
    assert "KeyboardInterrupt" in repr(caught.value)
    assert (len(fake.ids), waiting(tmp_path)) == (4, [0, 1, 2, 3])
    fake.roll_over(INDEX)
    assert await replay_letters(config) == (4, 0)
    assert set(fake.ids.values()) == {1}
    assert waiting(tmp_path) == []


async def test_what_is_refused_again_stays(tmp_path: Path, fake: FakeElasticsearch) -> None:
    put(tmp_path, letter(1), letter(2, document=b'{"no":"timestamp"}'), letter(3))
    assert await replay_letters(config_for(tmp_path, fake.url)) == (2, 1)
    assert waiting(tmp_path) == [2]


async def test_chosen_letters_only(tmp_path: Path, fake: FakeElasticsearch) -> None:
    put(
        tmp_path,
        letter(1),
        letter(2, reason="other"),
        letter(3, namespace="bank"),
        letter(4, output="gone"),
        letter(5),
    )
    config = config_for(tmp_path, fake.url)
    assert await replay_letters(config, output="es", reason="other") == (1, 0)
    assert await replay_letters(config, namespace="bank") == (1, 0)
    assert await replay_letters(config, limit=1) == (1, 0)
    assert waiting(tmp_path) == [4, 5]
    assert await replay_letters(config, since=6.0) == (0, 0)
    assert await replay_letters(config, until=5.0) == (0, 0)
    assert await replay_letters(config, since=5.0, until=6.0) == (1, 0)
    assert waiting(tmp_path) == [4]


async def test_letters_go_page_by_page(
    tmp_path: Path, fake: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "PAGE", 3)
    bad = b'{"no":"timestamp"}'
    put(tmp_path, *(letter(n, document=bad if n % 4 == 0 else None) for n in range(1, 11)))
    assert await replay_letters(config_for(tmp_path, fake.url), limit=9) == (7, 2)
    assert waiting(tmp_path) == [4, 8, 10]
    assert [request.items for request in fake.requests] == [3, 3, 3]


async def test_failures_on_the_way_are_tried_again(tmp_path: Path, fake: FakeElasticsearch) -> None:
    fake.faults.script("busy", "applied_then_reset", Fault("items_busy"), "unavailable")
    put(tmp_path, *(letter(n) for n in range(10)))
    assert await replay_letters(config_for(tmp_path, fake.url)) == (10, 0)
    assert fake.ids == {letter(n).document_id: 1 for n in range(10)}


async def test_destination_that_is_down_ends_the_command_and_keeps_the_letters(
    tmp_path: Path, fake: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "PAGE", 2)
    put(tmp_path, *(letter(n) for n in range(4)))
    fake.faults.script(None)
    fake.faults.chances = {Fault("unavailable"): 1.0}
    with pytest.raises(NothingTaken, match=r"within 0.3 s \(.*503.*\); 2 dead letters were delivered, the others stay"):
        await replay_letters(config_for(tmp_path, fake.url), patience_s=0.3)
    assert waiting(tmp_path) == [2, 3]


async def test_letter_that_had_no_id_gets_one_that_stays_the_same(tmp_path: Path, fake: FakeElasticsearch) -> None:
    config = config_for(tmp_path, fake.url)
    for _ in range(2):
        put(tmp_path, letter(1, document_id=None), letter(2, document_id=None))
        assert await replay_letters(config) == (2, 0)
    assert len(fake.ids) == 2
    assert set(fake.ids.values()) == {1}


async def test_output_without_ids_makes_none(tmp_path: Path, fake: FakeElasticsearch) -> None:
    put(tmp_path, letter(1))
    assert await replay_letters(config_for(tmp_path, fake.url, more=", ids: none")) == (1, 0)
    assert list(fake.ids) == ["automatic-1"]


async def test_unknown_output_is_named(tmp_path: Path, fake: FakeElasticsearch) -> None:
    with pytest.raises(ShipperError, match="there is no output ess in this configuration; there are es, files"):
        await replay_letters(config_for(tmp_path, fake.url), output="ess")


async def test_output_that_writes_beside_the_daemon_is_refused(tmp_path: Path, fake: FakeElasticsearch) -> None:
    put(tmp_path, letter(1, output="files"))
    with pytest.raises(ShipperError, match="output files writes on this node"):
        await replay_letters(config_for(tmp_path, fake.url))
    assert waiting(tmp_path) == [1]
    assert not (tmp_path / "out.ndjson").exists()


async def test_nothing_to_replay_asks_nobody(tmp_path: Path) -> None:
    assert await replay_letters(config_for(tmp_path, "http://127.0.0.1:9")) == (0, 0)
