"""Replaying an archive: what is missing is sent, what is there stays as it is, and each record is there once."""

import asyncio
import errno
import io
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault
from shipper.config.model import Config
from shipper.document import time_ns
from shipper.errors import ShipperError
from shipper.outputs import s3
from shipper.outputs.s3.bucket import Listed
from shipper.replay import archive as module
from shipper.replay.archive import Choice, Tally, replay_archive
from shipper.replay.progress import Progress
from shipper.replay.sender import NothingTaken
from tests.fakes.archive import Archive
from tests.replay.conftest import MakeConfig
from tests.replay.documents import document, documents, packed

STREAM = "logs-shop-default"


def put(archive: Archive, **objects: bytes) -> None:
    for name, content in objects.items():
        archive.client.put_object(Bucket=archive.bucket, Key=f"logs/{name}", Body=content)


async def replay(config: Config, origin: str, *, to: str = "es", patience_s: float = 10.0, **options: Any) -> Tally:
    tally = Tally()
    dry_run = options.pop("dry_run", False)
    await replay_archive(
        config,
        origin,
        to=to,
        choice=Choice(**options),
        tally=tally,
        dry_run=dry_run,
        report=lambda _tally: None,
        patience_s=patience_s,
    )
    return tally


def origin(archive: Archive) -> str:
    return f"s3://{archive.bucket}/logs/"


async def test_documents_arrive_under_their_ids_and_as_they_were(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    lines = [*documents(1, 2), document(3, n=1.50, nested={"a": [1]})]
    put(archive, a=packed(lines), b=packed(documents(4, namespace="bank")))
    tally = await replay(config_for(), origin(archive))
    assert (tally.records, tally.sent, tally.present, tally.refused, tally.is_complete) == (4, 4, 0, 0, True)
    written = {w.id: (w.index, orjson.loads(w.source)) for w in fake.store.writes}
    for line in lines:
        sent = orjson.loads(line)
        assert written[sent.pop("_id")] == (STREAM, sent)
    assert {index for index, _ in written.values()} == {STREAM, "logs-bank-default"}


async def test_a_replay_over_live_data_doubles_nothing_however_often_the_index_has_rolled_over(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    for numbers in ((1, 2), (3, 4), (5, 6), (7, 8)):
        put(archive, a=packed(documents(*numbers)))
        await replay(config_for(), origin(archive))
        fake.roll_over(STREAM)
    put(archive, a=packed(documents(*range(1, 11))))
    tally = await replay(config_for(), origin(archive))
    assert (tally.sent, tally.present) == (2, 8)
    assert len(fake.ids) == 10
    assert set(fake.ids.values()) == {1}


async def test_a_plain_index_says_by_itself_what_it_has(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    config = config_for(index="plain-{time:%Y.%m.%d}", data_stream=False)
    put(archive, a=packed(documents(1, 2)))
    await replay(config, origin(archive))
    put(archive, a=packed(documents(1, 2, 3)))
    tally = await replay(config, origin(archive))
    assert (tally.sent, tally.present) == (1, 2)
    assert {w.index for w in fake.store.writes} == {"plain-2026.11.21"}
    assert set(fake.ids.values()) == {1}


async def test_nothing_is_sent_to_an_output_that_cannot_be_asked(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    fake.questions_status = 403
    put(archive, a=packed(documents(1)))
    with pytest.raises(NothingTaken, match="these credentials lack view_index_metadata on logs-shop-default"):
        await replay(config_for(), origin(archive), patience_s=0.3)
    assert fake.ids == {}


async def test_every_way_of_packing_is_read_by_what_it_begins_with(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    frames = [zstandard.ZstdCompressor().compress(line) for line in documents(3, 4)]
    put(archive, a=packed(documents(1)) + packed(documents(2)), b=b"".join(frames), c=b"".join(documents(5)))
    assert (await replay(config_for(), origin(archive))).sent == 5
    assert len(fake.ids) == 5


async def test_a_copy_on_this_machine_is_as_good(
    fake: FakeElasticsearch, config_for: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "copy/shop").mkdir(parents=True)
    (tmp_path / "copy/shop/a.gz").write_bytes(packed(documents(1, 2)))
    (tmp_path / "copy/b.ndjson").write_bytes(b"".join(documents(3)))
    assert (await replay(config_for(), str(tmp_path / "copy"))).sent == 3
    tally = await replay(config_for(), str(tmp_path / "copy/b.ndjson"))
    assert (tally.sent, tally.present, tally.objects) == (0, 1, 1)


async def test_chosen_records_only(archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig) -> None:
    times = [f"2026-11-21T10:00:0{second}Z" for second in range(4)]
    lines = [document(n, time=time) for n, time in enumerate(times)]
    put(archive, a=packed(lines), b=packed(documents(9, namespace="bank", time=times[1])))
    at = time_ns(times[0].encode()) / 1e9
    tally = await replay(config_for(), origin(archive), since=at + 1, until=at + 3, namespace="shop")
    assert (tally.sent, tally.not_chosen) == (2, 3)
    assert [d["@timestamp"] for d in fake.documents()] == times[1:3]


async def test_objects_that_were_archived_before_the_wanted_time_are_not_read(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    put(archive, a=b"not even an archive", b=b"and neither is this")
    tally = await replay(config_for(), origin(archive), since=4e9)
    assert (tally.objects, tally.done_objects, tally.problem_objects, tally.records) == (2, 2, 0, 0)


async def test_objects_whose_keys_tell_another_hour_or_namespace_are_not_read(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    tail = "node-1-20261121T100000000000Z-5f0e8c1ab27d.ndjson.gz"
    for folder in ("2026/11/21/09/shop", "2026/11/21/10/bank", "2026/11/21/11/shop"):
        put(archive, **{f"{folder}/{tail}": b"is not even an archive"})
    put(archive, **{f"2026/11/21/10/shop/{tail}": packed(documents(1)), "of-nobody-s-template": packed(documents(2))})
    ten = time_ns(b"2026-11-21T10:00:00Z") / 1e9
    tally = await replay(config_for(), origin(archive), namespace="shop", since=ten, until=ten + 3600)
    assert (tally.objects, tally.done_objects, tally.sent, tally.problem_objects) == (5, 5, 2, 0)


async def test_a_dry_run_tells_what_is_missing_and_sends_nothing(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig, tmp_path: Path
) -> None:
    for index, is_stream in ((STREAM, True), ("plain", False)):
        config = config_for(index=index, data_stream=is_stream)
        put(archive, a=packed(documents(1, 2)))
        await replay(config, origin(archive))
        put(archive, a=packed(documents(1, 2, 3)))
        before = len(fake.store.writes)
        tally = await replay(config, origin(archive), dry_run=True)
        assert (tally.sent, tally.present) == (1, 2)
        assert len(fake.store.writes) == before
    assert list((tmp_path / "state/replay").iterdir()) == []


# -- what is not as it should be --------------------------------------------------------------------------------------


async def test_damaged_and_foreign_objects_are_named_and_the_others_are_replayed(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    whole = packed(documents(*range(1000)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    put(
        archive,
        a=whole[: len(whole) // 2],
        b=bytes(flipped),
        c=b"\x7fELF",
        d=packed(documents(2000)),
        e=b"".join(documents(2001))[:-1],
        f=b"",
    )
    tally = await replay(config_for(), origin(archive))
    assert (tally.sent, tally.problem_objects, tally.done_objects) == (1, 5, 6)
    assert set(tally.problems) == {f"logs/{name}" for name in "abcef"}
    assert "gzip is damaged" in tally.problems["logs/a"]
    assert tally.problems["logs/c"] == "it holds no archived documents"
    assert not tally.is_complete
    assert len(fake.ids) == 1


async def test_what_lies_beside_an_archive_is_passed_over(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    put(archive, a=packed(documents(1)), **{".shipper-check-1": b"probe", "manifest/n/2026.jsonl": b"{}\n", "x/": b""})
    tally = await replay(config_for(), f"s3://{archive.bucket}")
    assert (tally.objects, tally.sent, tally.is_complete) == (1, 1, True)


async def test_a_record_without_an_id_is_sent_only_when_that_is_asked_for_and_once(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    line = document(1, has_id=False)
    put(archive, a=packed([line, line, document(2)]))
    tally = await replay(config_for(), origin(archive))
    assert (tally.sent, tally.without_id, tally.is_complete) == (1, 2, False)
    for _ in range(2):
        fake.roll_over(STREAM)
        assert (await replay(config_for(), origin(archive), make_ids=True)).is_complete
    assert len(fake.ids) == 3
    assert set(fake.ids.values()) == {1}


async def test_what_is_refused_is_counted_and_the_rest_is_sent(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    fake.store.numbers = frozenset({"n"})
    put(archive, a=packed([document(1, n=1), document(2, n="one"), document(3, n=2)]))
    tally = await replay(config_for(), origin(archive))
    assert (tally.sent, tally.refused) == (2, 1)


async def test_failures_on_the_way_are_tried_again(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    fake.faults.script("busy", "applied_then_reset", "applied_then_rolled_over", "items_busy", "unavailable")
    put(archive, a=packed(documents(*range(50))))
    tally = await replay(config_for(), origin(archive))
    assert tally.sent + tally.present == 50
    assert len(fake.ids) == 50
    assert set(fake.ids.values()) == {1}


# -- where records belong ---------------------------------------------------------------------------------------------


async def test_targets_are_made_of_what_documents_tell(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    config = config_for(
        filters=({"type": "kubernetes", "api": False},),
        index="x-{pod}-{container}-{node}-{label:app}-{label:none}-{field:level}-{field:a.b}-{time:%H}",
        data_stream=False,
    )
    in_message = document(2, message='{"level":"warn","a":{"b":2}}')
    put(archive, a=packed([document(1, level="info", a={"b": 1}), in_message]))
    tally = await replay(config, origin(archive))
    assert tally.is_complete, tally
    prefix = "x-cart-1-app-node-1-cart-unknown-"
    assert [w.index for w in fake.store.writes] == [f"{prefix}info-1-10", f"{prefix}warn-2-10"]


async def test_a_renamed_field_is_found_by_its_own_name(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    put(archive, a=packed([document(1, stream_original="mine", message="m")]))
    await replay(config_for(index="x-{field:stream}", data_stream=False), origin(archive))
    assert [w.index for w in fake.store.writes] == ["x-mine"]


async def test_a_record_that_does_not_tell_where_it_belongs_is_named_and_not_guessed_at(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    config = config_for(filters=({"type": "kubernetes", "api": False},), index="logs-{label:app}-default")
    put(archive, a=packed([document(1), document(2, host=None), document(3)]))
    tally = await replay(config, origin(archive))
    assert (tally.sent, tally.unplaceable, tally.is_complete) == (2, 1, False)
    assert "record 2: it was archived before its pod's labels were known" in tally.problems["logs/a"]
    without = config_for(filters=({"type": "kubernetes", "api": False, "labels": ["team"]},), index="x-{label:app}")
    tally = await replay(without, origin(archive))
    assert (tally.sent, tally.unplaceable) == (0, 3)


async def test_files_that_are_no_containers_are_replayed_too(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    line = b'{"_id":"1f-0-64","@timestamp":"2026-11-21T10:00:00Z","file":{"path":"/var/log/a/app.log","offset":0},'
    put(archive, a=packed([line + b'"kubernetes":"not ours","message":"x"}\n']))
    tally = await replay(config_for(index="x-{dir}-{stem}-{namespace}", data_stream=False), origin(archive))
    assert tally.is_complete, tally
    assert [w.index for w in fake.store.writes] == ["x-a-app-unknown"]


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({}, {"to": "ess"}, "there is no output ess in this configuration; there are es, archive, file"),
        ({}, {"to": "file"}, "output file writes on this node"),
        ({}, {"to": "archive"}, "output archive writes on this node"),
        ({"ids": "none"}, {}, "output es writes without ids, .* set `ids: offset`"),
        ({"index": "logs-{tag}-x"}, {}, r"depends on {tag}, which archived documents do not tell"),
        ({}, {"origin": "s3://"}, "names no bucket: write s3://BUCKET/PREFIX"),
        ({}, {"origin": "/no/such/path"}, "is neither s3://BUCKET/PREFIX nor a file or folder"),
        ({}, {}, "there are no archived objects at s3://"),
    ],
)
async def test_what_cannot_be_replayed_is_said_in_a_sentence(
    archive: Archive,
    config_for: MakeConfig,
    changes: Mapping[str, Any],
    options: dict[str, Any],
    sentence: str,
) -> None:
    where = options.pop("origin", origin(archive))
    with pytest.raises(ShipperError, match=sentence):
        await replay(config_for(**changes), where, **options)


async def test_a_bucket_that_is_not_there_is_named(config_for: MakeConfig, archive: Archive) -> None:
    archive.client.delete_bucket(Bucket=archive.bucket)
    with pytest.raises(ShipperError, match=f"the bucket {archive.bucket} does not exist"):
        await replay(config_for(), origin(archive))


# -- stopped, and taken up again --------------------------------------------------------------------------------------


async def test_a_replay_that_was_stopped_goes_on_where_it_was(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(archive, a=packed(documents(1)), b=b"damaged", c=packed(documents(2)), d=packed(documents(3)))
    read: list[str] = []

    async def open_until(self: module._Replay, listed: Listed) -> None:
        read.append(listed.key)
        if listed.key == stops_at:
            assert await self._sender.is_answered()
            raise asyncio.CancelledError
        await plain(self, listed)

    plain = module._Replay._replay
    monkeypatch.setattr(module._Replay, "_replay", open_until)
    stops_at = "logs/d"
    with pytest.raises(asyncio.CancelledError):
        await replay(config_for(), origin(archive))
    assert read == ["logs/a", "logs/b", "logs/c", "logs/d"]
    assert len(list((tmp_path / "state/replay").iterdir())) == 1
    read.clear()
    stops_at = ""
    tally = await replay(config_for(), origin(archive))
    assert read == ["logs/b", "logs/d"], "what was not whole is tried again"
    assert (tally.done_before, tally.sent, tally.problem_objects) == (2, 1, 1)
    assert list((tmp_path / "state/replay").iterdir()) == [], "another run begins anew"
    assert set(fake.ids.values()) == {1}
    assert len(fake.ids) == 3


def test_what_came_into_the_archive_since_the_first_run_is_not_done(tmp_path: Path) -> None:
    first = Progress.of(str(tmp_path), "s3://x")
    first.note("b", is_whole=True)
    first.note("c", is_whole=False)
    first.save()
    again = Progress.of(str(tmp_path), "s3://x")
    assert again.is_begun
    assert not Progress.of(str(tmp_path), "s3://y").is_begun
    assert again.is_done(Listed("a", 1, 1e9, ""))
    assert not again.is_done(Listed("a", 1, 9e9, ""))
    assert not again.is_done(Listed("c", 1, 1e9, ""))
    assert not again.is_done(Listed("d", 1, 1e9, ""))
    again.note("c", is_whole=True)
    again.save()
    assert Progress.of(str(tmp_path), "s3://x").is_done(Listed("c", 1, 1e9, ""))


async def test_reading_waits_for_an_output_that_takes_nothing_and_ends_when_that_takes_too_long(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig
) -> None:
    fake.faults.chances = {Fault("unavailable"): 1.0}
    config = config_for(batch={"max_bytes": "64KiB", "min_bytes": "64KiB"}, concurrency=1)
    put(archive, **{f"{n:02}": packed(documents(*range(n * 4000, n * 4000 + 4000))) for n in range(4)})
    tally = Tally()
    with pytest.raises(NothingTaken, match=r"has not taken everything within 0.5 s \(.*503.*The same command goes on"):
        await replay_archive(
            config, origin(archive), to="es", choice=Choice(), tally=tally, report=lambda _tally: None, patience_s=0.5
        )
    assert tally.done_objects == 0, "it went on reading"
    assert tally.sent == 0


# -- the machine that it runs on --------------------------------------------------------------------------------------


async def test_no_room_for_an_object_is_said_with_what_helps(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(archive, a=packed(documents(1)))

    class Full(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(
        ShipperError, match=r"logs/a cannot be kept on this machine's disk: No space left on device; set TMPDIR to"
    ):
        await replay(config_for(), origin(archive))


async def test_where_there_is_no_temporary_folder_the_states_is_taken(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(archive, a=packed(documents(1)))
    plain = tempfile.TemporaryFile

    def only_where_told(*, dir: str | None = None) -> Any:  # noqa: A002  as it is called there
        if dir is None:
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")
        return plain(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", only_where_told)
    with pytest.raises(ShipperError, match="no temporary folder can be written to: set TMPDIR"):
        await replay(config_for(), origin(archive))
    (tmp_path / "state").mkdir(exist_ok=True)
    assert (await replay(config_for(), origin(archive))).sent == 1
    assert list((tmp_path / "state").glob("*")) == [tmp_path / "state/replay"]


async def test_parquet_that_cannot_be_read_here_says_what_to_do(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(archive, a=b"PAR1...", b=packed(documents(1)))
    monkeypatch.delitem(sys.modules, "shipper.outputs.s3.parquet", raising=False)
    monkeypatch.delattr(s3, "parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    tally = await replay(config_for(), origin(archive))
    assert (tally.sent, tally.problem_objects) == (1, 1)
    assert tally.problems["logs/a"].endswith("pip install 'shipper[parquet]'")


async def test_a_progress_that_cannot_be_noted_is_said_once_and_stops_nothing(
    archive: Archive, fake: FakeElasticsearch, config_for: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    put(archive, a=packed(documents(1)), b=packed(documents(2)))
    assert (await replay(config_for(), origin(archive))).sent == 2
    assert sum("cannot be noted" in record.message for record in caplog.records) == 1
