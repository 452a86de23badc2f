"""The whole of it over real files and a real state: restore, `--once`, what is lost and said, drain, history."""

import asyncio
import gzip
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shipper.checkpoint import FILE, Changes, Checkpoint
from shipper.conditions import parse_condition
from shipper.delivery import Batch, Delivery
from shipper.errors import StateError
from shipper.filters.base import Lookup, Metadata
from shipper.filters.config import FilterConfig
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.tag import TagConfig, TagRule
from shipper.inputs.tail import files, head
from shipper.inputs.tail.config import TailConfig
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.input import TailInput
from shipper.ledger import DELIVERED, SKIPPED, SPOOLED, UNMATCHED
from shipper.metrics import Metrics
from shipper.outputs.worker import OutputWorker, Retry
from shipper.pipeline import pipeline as module
from shipper.pipeline.pipeline import OnceStalled, Pipeline, Settings
from shipper.pipeline.plans import Plans
from shipper.record import Source
from shipper.router import Route, Router
from shipper.template import Template
from tests.pipeline.bench import FakeLetters, FakeOutput, fates, line, messages
from tests.pipeline.test_lanes import Known


class Site:
    """A folder of pods' logs and a state. Each `run` is a process of its own, as far as the pipeline can tell."""

    def __init__(self, folder: Path) -> None:
        self.logs, self.state = folder / "pods", folder / "state"
        self.state.mkdir()
        self.options: dict[str, Any] = {"drain_timeout_s": 5.0, "hold_deleted_bytes": 1 << 20, "history_s": 3600.0}
        self.read_from = "head"
        self.open_limit = 1000
        self.metrics = Metrics()

    def log(self, pod: str = "cart", name: str = "0.log") -> Path:
        folder = self.logs / f"shop_{pod}_uid-{pod}" / "app"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def write(self, data: bytes, pod: str = "cart", name: str = "0.log") -> None:
        with self.log(pod, name).open("ab") as file:
            file.write(data)

    def pipeline(
        self, *outputs: FakeOutput, filters: Sequence[FilterConfig] = (), metadata: Known | None = None
    ) -> Pipeline:
        self.checkpoint = Checkpoint(self.state)
        stored = self.checkpoint.load()
        routes = [Route(o.name, o.match, o.template) for o in outputs]
        router = Router(filters, routes, node="node-1")
        plans = Plans(router, outputs, metadata, wait_s=0, static={}, limits={"pods": 1 << 20})
        made: list[Pipeline] = []

        def room() -> None:
            made[0].pump.room()

        workers = {
            o.name: OutputWorker(
                o,
                limit_bytes=o.limit_bytes,
                retry=Retry(0.01, 0.01),
                metrics=self.metrics,
                letters=FakeLetters(),
                on_room=room,
            )
            for o in outputs
        }
        pipeline = Pipeline(
            settings=Settings(read_from={"pods": self.read_from}, **self.options),
            metrics=self.metrics,
            checkpoint=self.checkpoint,
            stored=stored,
            plans=plans,
            workers=workers,
            metadata=metadata,
        )
        made.append(pipeline)
        config = TailConfig(name="pods", path=(f"{self.logs}/*/*/*.log",), read_from=self.read_from)  # type: ignore[arg-type]
        pipeline.inputs = [TailInput(config, pipeline, self.metrics, open_limit=self.open_limit)]
        pipeline.restore()
        return pipeline

    async def once(self, *outputs: FakeOutput, **options: Any) -> Pipeline:
        pipeline = self.pipeline(*outputs, **options)
        try:
            await pipeline.run(asyncio.Event(), once=True)
        finally:
            self.end(pipeline)
        return pipeline

    def end(self, pipeline: Pipeline) -> None:
        for generation in pipeline.generations():
            generation.close()
            for cursor in generation.cursors.values():
                cursor.check()
        self.checkpoint.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def generation_of(pipeline: Pipeline, pod: str = "cart") -> Generation:
    return next(g for g in pipeline.generations() if g.source.pod == pod)


def refuse(batch: Batch) -> Delivery:
    return Delivery(retry=tuple(range(batch.records)), reason="busy")


# -- once -------------------------------------------------------------------------------------------------------------


async def test_once_delivers_what_is_there_with_an_unfinished_last_line(site: Site) -> None:
    site.write(line(0, "a") + b"2026-11-21T10:00:01Z stdout F hal")
    es = FakeOutput()
    pipeline = await site.once(es)
    assert messages(es) == ["a", "hal"]
    assert es.drained == 1
    assert generation_of(pipeline).is_done()


async def test_a_second_once_delivers_only_what_is_new(site: Site) -> None:
    site.write(line(0, "a"))
    await site.once(FakeOutput())
    site.write(line(1, "b"))
    es = FakeOutput()
    await site.once(es)
    assert messages(es) == ["b"]


async def test_once_reads_more_files_than_may_be_open(site: Site) -> None:
    site.open_limit = 2
    for i in range(7):
        site.write(line(i, f"pod {i}"), f"pod-{i}")
    es = FakeOutput()
    await site.once(es)
    assert sorted(messages(es)) == [f"pod {i}" for i in range(7)]


async def test_once_gives_up_when_nothing_is_confirmed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ONCE_PATIENCE_S", 0.2)
    site.write(line(0))
    with pytest.raises(ExceptionGroup) as raised:
        await site.once(FakeOutput(answers=[refuse] * 10_000))
    assert raised.group_contains(OnceStalled, match="no output has confirmed anything")


# -- restore ----------------------------------------------------------------------------------------------------------


async def test_each_output_goes_on_from_its_own_place(site: Site) -> None:
    site.write(line(0, "a"))
    await site.once(FakeOutput("es"))
    site.write(line(1, "b"))
    es, new = FakeOutput("es"), FakeOutput("s3")
    await site.once(es, new)
    assert (messages(es), messages(new)) == (["b"], ["a", "b"])


async def test_a_new_output_begins_at_the_end_where_read_from_says_so(site: Site) -> None:
    site.write(line(0, "a"))
    await site.once(FakeOutput("es"))
    site.read_from = "end"
    new = FakeOutput("s3")
    pipeline = await site.once(FakeOutput("es"), new)
    assert messages(new) == []
    assert fates([generation_of(pipeline)], "s3") == {SKIPPED: len(line(0, "a"))}
    site.write(line(1, "b"))
    again = FakeOutput("s3")
    await site.once(FakeOutput("es"), again)
    assert messages(again) == ["b"]


async def test_read_from_end_holds_for_the_very_first_start_only(site: Site) -> None:
    site.read_from = "end"
    site.write(line(0, "old"))
    es = FakeOutput()
    pipeline = await site.once(es)
    assert fates([generation_of(pipeline)], "es") == {SKIPPED: len(line(0, "old"))}
    site.write(line(1, "new"))
    site.write(line(2, "other"), "till")
    await site.once(es)
    assert sorted(messages(es)) == ["new", "other"]


async def test_read_from_end_leaves_out_what_was_rotated_before_the_first_start(site: Site) -> None:
    site.read_from = "end"
    site.log(name="0.log.20261121-100000.gz").write_bytes(gzip.compress(line(0, "oldest")))
    site.write(line(1, "older"), name="0.log.20261121-110000")
    site.write(line(2, "old"))
    es = FakeOutput()
    pipeline = await site.once(es)
    assert messages(es) == []
    sizes = map(len, (line(0, "oldest"), line(1, "older"), line(2, "old")))
    assert fates(pipeline.generations(), "es") == {SKIPPED: sum(sizes)}
    site.write(line(3, "new"))
    await site.once(es)
    assert messages(es) == ["new"]


async def test_what_an_earlier_process_may_have_sent_is_doubted_and_nothing_else(site: Site) -> None:
    doubts = list[tuple[bool, list[str]]]()

    class Doubting(FakeOutput):
        async def send(self, batch: Batch) -> Delivery:
            since, before = batch.uncertain_since, len(self.sent)
            delivery = await super().send(batch)
            assert since is None or since <= time.time()
            doubts.append((since is not None, messages(self)[before:]))
            return delivery

    site.write(line(0, "one"))
    await site.once(Doubting())
    site.write(line(1, "two"))
    pipeline = await site.once(Doubting())
    assert doubts == [(False, ["one"]), (True, ["two"])]
    (cursor,) = generation_of(pipeline).cursors.values()
    assert cursor.sent_before is not None
    assert cursor.sent_before.end == len(line(0, "one") + line(1, "two"))


async def test_all_of_a_gzipped_file_is_doubted_whose_end_was_not_found_yet(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PART_BYTES", 1 << 12)
    monkeypatch.setattr(files, "GZIP_STEP_BYTES", 1 << 10)
    monkeypatch.setattr(head, "MEASURED_AT_ONCE_BYTES", 1 << 13)
    content = b"".join(line(i) for i in range(2_000))
    site.log(name="0.log.20261121-100000.gz").write_bytes(gzip.compress(content))
    pipeline = site.pipeline(FakeOutput())
    await pipeline.inputs[0].rescan()
    await pipeline.journal.commit()
    site.end(pipeline)
    pipeline = site.pipeline(FakeOutput())
    await pipeline.inputs[0].rescan()
    generation = generation_of(pipeline)
    assert generation.size < len(content)
    pipeline._doubt_what_is_repeated(generation)
    sent_before = generation.cursors["es"].sent_before
    assert sent_before is not None
    assert sent_before.end > len(content)
    site.end(pipeline)


async def test_a_removed_outputs_place_is_kept(site: Site) -> None:
    site.write(line(0, "a"))
    await site.once(FakeOutput("es"), FakeOutput("s3"))
    site.write(line(1, "b"))
    await site.once(FakeOutput("es"))
    back = FakeOutput("s3")
    await site.once(FakeOutput("es"), back)
    assert messages(back) == ["b"]


async def test_a_new_output_loses_nothing_with_files_that_were_gone_before_it_came(site: Site) -> None:
    site.write(line(0, "a"))
    await site.once(FakeOutput("es"))
    shutil.rmtree(site.logs / "shop_cart_uid-cart")
    await site.once(FakeOutput("es"))
    pipeline = await site.once(FakeOutput("es"), FakeOutput("s3"))
    assert "s3" not in generation_of(pipeline).cursors
    assert [sample for metric in site.metrics.lost_bytes.collect() for sample in metric.samples] == []


# -- loss -------------------------------------------------------------------------------------------------------------


def adopt(pipeline: Pipeline, pod: str, size: int, **values: Any) -> Generation:
    source = Source("pods", f"/x/shop_{pod}_u/app/0.log", "shop", pod, f"uid-{pod}", "app", 0)
    values.setdefault("format", "cri")
    generation = Generation(pipeline.new_id(), source, source.path, "kube.x", size=size, **values)
    pipeline.adopt(generation, may_skip=False)
    return generation


def lost(site: Site, output: str, pod: str, reason: str) -> float:
    return float(site.metrics.lost_bytes.labels(output, "shop", pod, "app", reason)._value.get())


async def test_what_is_lost_is_counted_once_for_each_output(site: Site) -> None:
    pipeline = site.pipeline(FakeOutput("es"), FakeOutput("s3"))
    generation = adopt(pipeline, "cart", 100)
    generation.cursors["es"].take(60, fates={DELIVERED: 60}, records=0)
    for _ in range(2):
        pipeline.lose(generation, "deleted", has_gap=False)
    assert (lost(site, "es", "cart", "deleted"), lost(site, "s3", "cart", "deleted")) == (40, 100)
    assert generation.gaps == 0
    pipeline.lose(generation, "deleted", has_gap=True)
    assert generation.gaps == 1
    assert lost(site, "es", "cart", "deleted") == 40
    site.end(pipeline)


async def test_what_an_output_would_not_have_taken_is_no_loss_of_its(site: Site) -> None:
    other = FakeOutput("s3", match=("archive.*",))
    rule = TagRule(when=parse_condition({"annotation": "keep", "exists": True}), add=Template.parse("archive.x"))
    filters: list[FilterConfig] = [KubernetesConfig(), TagConfig(rules=(rule,))]
    pipeline = site.pipeline(FakeOutput("es"), other, filters=filters, metadata=Known(Metadata()))
    generation = adopt(pipeline, "cart", 100)
    pipeline.lose(generation, "deleted", has_gap=False)
    assert (lost(site, "es", "cart", "deleted"), lost(site, "s3", "cart", "deleted")) == (100, 0)
    assert generation.cursors["s3"].fates == {UNMATCHED: 100}
    site.end(pipeline)


def gaps(site: Site, output: str) -> float:
    return float(site.metrics.lost_gaps.labels(output, "shop", "cart", "app", "deleted")._value.get())


class CutBack:
    """Whatever it has beyond the cursors is cut off at the start."""

    def changes(self) -> dict[str, bytes | None]:
        return {}

    def sync(self) -> None: ...


@pytest.mark.parametrize("is_clean", [True, False])
async def test_what_vanished_while_it_was_down_is_in_doubt_where_it_had_died_unless_the_output_was_cut_back(
    site: Site, is_clean: bool
) -> None:
    """What it had sent in its last moments may have been delivered, and nobody can ask about it."""
    site.write(line(0))
    outputs = FakeOutput("es"), FakeOutput("s3", durable=CutBack())
    pipeline = site.pipeline(*outputs)
    await pipeline.inputs[0].rescan()
    (generation,) = pipeline.generations()
    generation.is_final = generation.is_dirty = True
    await pipeline.journal.commit()
    if is_clean:
        site.checkpoint.note_idle()
    site.end(pipeline)
    shutil.rmtree(site.logs)
    pipeline = site.pipeline(*outputs)
    await pipeline.inputs[0].rescan()
    size, generation = len(line(0)), generation_of(pipeline)
    told = {"lost:deleted": size}
    assert {o: c.fates for o, c in generation.cursors.items()} == {
        "es": told if is_clean else {"in_doubt:deleted": size},
        "s3": told,
    }
    assert lost(site, "es", "cart", "deleted") == (size if is_clean else 0)
    assert lost(site, "s3", "cart", "deleted") == size
    assert (gaps(site, "es"), gaps(site, "s3"), generation.gaps) == (0 if is_clean else 1, 0, 0)
    site.end(pipeline)


async def test_what_a_killed_process_may_have_delivered_stays_in_doubt_over_clean_restarts(site: Site) -> None:
    site.write(line(0))
    pipeline = site.pipeline(FakeOutput())
    await pipeline.inputs[0].rescan()
    await pipeline.journal.commit()
    site.end(pipeline)
    pipeline = site.pipeline(FakeOutput())  # it reads nothing: its destination is away
    await pipeline.inputs[0].rescan()
    await pipeline.journal.commit()
    site.checkpoint.note_idle()
    site.end(pipeline)
    shutil.rmtree(site.logs)
    pipeline = site.pipeline(FakeOutput())
    await pipeline.inputs[0].rescan()
    assert generation_of(pipeline).cursors["es"].fates == {"in_doubt:deleted": len(line(0))}
    site.end(pipeline)


async def test_where_the_cursors_were_forgotten_nothing_is_lost_for_certain(site: Site) -> None:
    """The archive may hold it, since there is nothing that it could have been cut back to."""
    site.write(line(0))
    await site.once(FakeOutput("s3", durable=CutBack()))
    (site.state / FILE).write_bytes(b"this is no database" * 1_000)
    pipeline = site.pipeline(FakeOutput("s3", durable=CutBack()))
    await pipeline.inputs[0].rescan()
    generation = generation_of(pipeline)
    pipeline._doubt_what_is_repeated(generation)
    pipeline.lose(generation, "truncated", has_gap=False)
    assert generation.cursors["s3"].fates == {"in_doubt:truncated": len(line(0))}
    site.end(pipeline)


async def test_deleted_files_are_held_up_to_a_bound_and_the_oldest_is_given_up_first(site: Site) -> None:
    site.options["hold_deleted_bytes"] = 250
    pipeline = site.pipeline(FakeOutput())
    now = time.time()
    pods = {"young": now - 1, "old": now - 3, "older": now - 5, "middle": now - 2}
    held = {pod: adopt(pipeline, pod, 100, is_deleted=True, is_final=True, gone_at=at) for pod, at in pods.items()}
    pipeline.housekeeper.bound_held(list(held.values()))
    assert {pod for pod in pods if lost(site, "es", pod, "hold_deleted")} == {"old", "older"}
    site.end(pipeline)


# -- housekeeping -----------------------------------------------------------------------------------------------------


async def test_history_forgets_only_what_is_gone_and_done_and_uploaded(site: Site) -> None:
    pipeline = site.pipeline(FakeOutput())
    long_ago = time.time() - 2 * site.options["history_s"]
    rows: dict[str, dict[str, Any]] = {
        "over": {"gone_at": long_ago},
        "recent": {"gone_at": time.time()},
        "there": {"gone_at": None},
        "undone": {"gone_at": long_ago},
        "spooled": {"gone_at": long_ago},
    }
    for pod, values in rows.items():
        generation = adopt(pipeline, pod, 100, is_final=True, **values)
        if pod != "undone":
            generation.cursors["es"].take(100, fates={SPOOLED if pod == "spooled" else DELIVERED: 100}, records=0)
    pipeline.tend()
    assert {g.source.pod for g in pipeline.generations()} == rows.keys() - {"over"}
    spooled = generation_of(pipeline, "spooled")
    spooled.cursors["es"].move(SPOOLED, DELIVERED, 100)
    pipeline.tend()
    assert {g.source.pod for g in pipeline.generations()} == rows.keys() - {"over", "spooled"}
    site.end(pipeline)


async def test_a_pod_stays_known_until_all_of_its_records_have_their_fate(site: Site) -> None:
    """What is in flight may have to be read again, and is to get the labels of a pod that is deleted meanwhile."""
    kept: list[set[str]] = []
    metadata = Known(Metadata())
    metadata.retain = lambda uids: kept.append(set(uids))  # type: ignore[method-assign]
    pipeline = site.pipeline(FakeOutput(), filters=[KubernetesConfig()], metadata=metadata)
    generation = adopt(pipeline, "cart", 100, is_final=True)
    segment = generation.cursors["es"].take(100, records=1)
    pipeline.tend()
    segment.answer(1)
    pipeline.tend()
    assert kept == [{generation.source.uid}, set()]
    site.end(pipeline)


async def test_the_last_words_of_a_terminated_container_are_delivered(site: Site) -> None:
    """They stand as `P` for good. Twice looked at, since the status may be known before the last line is."""
    site.write(line(0, "last words", tag="P"))
    metadata, es = Known(Lookup.UNKNOWN), FakeOutput()
    pipeline = site.pipeline(es, filters=[KubernetesConfig()], metadata=metadata)
    await pipeline.inputs[0].rescan()
    generation = generation_of(pipeline)
    metadata.told = Metadata(terminated=True)
    pipeline.metadata_changed("uid-cart")

    def read() -> None:
        while pipeline.pump.waiting():
            for job in pipeline.pump.choose():
                assert job.generation.file is not None
                job.take(job.generation.file.read(job.position, job.length))
                pipeline.pump.process(job)

    read()
    pipeline.tend()
    assert not generation.is_final
    pipeline.tend()
    assert generation.is_final
    read()
    assert generation.cursors["es"].position == generation.size
    site.end(pipeline)


async def test_a_pod_stays_known_until_its_files_are_final_and_read(site: Site) -> None:
    kept: list[set[str]] = []

    class Keeper(Known):
        def retain(self, uids: Any) -> None:
            kept.append(set(uids))

    pipeline = site.pipeline(FakeOutput(), metadata=Keeper(Metadata()))
    generation = adopt(pipeline, "cart", 100)
    generation.cursors["es"].take(100, fates={DELIVERED: 100}, records=0)
    pipeline.tend()
    generation.is_final = True
    pipeline.tend()
    assert kept == [{"uid-cart"}, set()]
    site.end(pipeline)


# -- drain ------------------------------------------------------------------------------------------------------------


async def test_a_destination_that_is_down_keeps_no_other_from_its_drain(site: Site) -> None:
    site.options["drain_timeout_s"] = 1.0
    site.write(line(0, "a"))
    stop = asyncio.Event()

    def refuse_and_stop(batch: Batch) -> Delivery:
        stop.set()
        return refuse(batch)

    es = FakeOutput("es", answers=[refuse_and_stop] * 10_000, max_batch_age_s=0.01)
    s3 = FakeOutput("s3")
    pipeline = site.pipeline(es, s3)
    await pipeline.run(stop, once=False)
    assert (es.drained, s3.drained) == (0, 1)
    assert messages(s3) == ["a"]
    assert generation_of(pipeline).cursors["es"].acked == 0
    site.end(pipeline)
    again = FakeOutput("es")
    await site.once(again, FakeOutput("s3"))
    assert messages(again) == ["a"]


async def test_an_output_whose_drain_fails_is_said_after_all_was_saved(site: Site) -> None:
    site.write(line(0, "a"))
    bad, good = FakeOutput("bad", drain_error=StateError("the spool is gone")), FakeOutput("good")
    with pytest.raises(ExceptionGroup) as raised:
        await site.once(bad, good)
    assert raised.group_contains(StateError, match="the spool is gone")
    assert good.drained == 1
    again = FakeOutput("good")
    await site.once(FakeOutput("bad"), again)
    assert messages(again) == []


async def test_a_last_checkpoint_that_fails_is_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(self: Checkpoint, changes: Changes) -> None:
        raise StateError("the disk is full")

    site.write(line(0, "a"))
    monkeypatch.setattr(Checkpoint, "commit", commit)
    with pytest.raises(ExceptionGroup) as raised:
        await site.once(FakeOutput())
    assert raised.group_contains(StateError, match="could not be written: the disk is full")
