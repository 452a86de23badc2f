"""What is decided once per container: made anew when it must be, kept within bounds, and keyed by all it depends on."""

import pytest

from shipper.filters.base import Lookup, Metadata
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.inputs.tail.generation import Generation
from shipper.pipeline import plans as plans_module
from shipper.pipeline.plans import MOST_ENVELOPES, UNUSED_S, time_key
from shipper.record import Source
from tests.fakes import clock
from tests.pipeline.bench import FILE, POD, TAG, Bench, FakeOutput, fates, file_of, line, messages
from tests.pipeline.test_lanes import Known
from tests.test_router import add, drop, tags

KUBERNETES = KubernetesConfig()
OTHER = Source("pods", "/var/log/pods/shop_till_v/app/0.log", "shop", "till", "v", "app", 0)
LABELLED = Metadata(document={"labels": {"app": "web"}}, labels={"team": "a", "app": "web"})


def generation_of(bench: Bench, source: Source = POD) -> Generation:
    generation = Generation(1, source, source.path, TAG, id_base="b", format="cri", seen_at=0.0)
    bench.generations.append(generation)
    return generation


def test_records_wait_for_labels_that_enrich_them_but_not_for_long() -> None:
    async def scenario() -> None:
        known = Known(Lookup.UNKNOWN)
        bench = Bench(filters=[KUBERNETES], metadata=known, wait_s=5)
        generation = bench.open(line(0))
        await bench.pass_time(4.5)
        assert file_of(generation).reads == []
        await bench.pass_time(1)
        await bench.deliver()
        assert messages(bench.outputs["es"]) == ["hello"]

    clock.run(scenario())


def test_metadata_that_comes_in_time_is_in_the_documents() -> None:
    async def scenario() -> None:
        known = Known(Lookup.UNKNOWN)
        bench = Bench(filters=[KUBERNETES], metadata=known, wait_s=5)
        generation = bench.open(line(0))
        bench.rounds()
        known.told = LABELLED
        bench.plans.forget(generation)
        bench.pump.changed(generation)
        await bench.finish()
        assert b'"labels":{"app":"web"}' in bench.outputs["es"].documents[0]

    clock.run(scenario())


def test_documents_of_another_day_have_labels_though_the_plan_has_forgotten_them() -> None:
    async def scenario() -> None:
        bench = Bench(
            FakeOutput(target="logs-{time:%Y.%m.%d}"), filters=[KUBERNETES], metadata=Known(LABELLED), wait_s=5
        )
        generation = bench.open(line(0))
        bench.rounds()
        await bench.deliver()
        assert bench.plans.of(generation).plan.metadata == Metadata()
        bench.write(generation, line(1, time="2026-11-22T10:00:00Z"))
        await bench.finish()
        bench.check()
        assert [target for target, _ in bench.outputs["es"].sent] == ["logs-2026.11.21", "logs-2026.11.22"]
        assert all(b'"labels":{"app":"web"}' in document for document in bench.outputs["es"].documents)

    clock.run(scenario())


def test_an_output_whose_target_needs_metadata_waits_and_the_others_go_on() -> None:
    async def scenario() -> None:
        known = Known(Lookup.UNKNOWN)
        bench = Bench(
            FakeOutput("es"), FakeOutput("s3", target="logs-{label:team}"), filters=[KUBERNETES], metadata=known
        )
        generation = bench.open(line(0))
        await bench.pass_time(3600)
        assert bench.positions(generation) == {"es": generation.size, "s3": 0}
        assert len(file_of(generation).reads) == 1
        known.told = LABELLED
        bench.plans.forget(generation)
        bench.pump.changed(generation)
        await bench.finish()
        bench.check()
        assert [target for target, _ in bench.outputs["s3"].sent] == ["logs-a"]

    clock.run(scenario())


def test_a_container_that_no_output_can_match_has_no_cursor() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput("es", match=("files.*",)), FakeOutput("s3", match=("kube.*",)))
        assert list(bench.open(line(0)).cursors) == ["s3"]

    clock.run(scenario())


def test_targets_are_keyed_by_the_time_in_utc() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(target="logs-{time:%Y.%m.%d}"))
        generation = generation_of(bench)
        tags_ = bench.plans.of(generation).plan.tags
        times = {
            b"2026-11-21T23:00:00Z": "logs-2026.11.21",
            b"2026-11-22T04:29:59+05:30": "logs-2026.11.21",
            b"2026-11-22T05:30:00+05:30": "logs-2026.11.22",
            b"2026-11-21T23:00:00-03:30": "logs-2026.11.22",
            b"2026-11-22T00:00:00+00:00": "logs-2026.11.22",
        }
        for time, target in [*times.items(), *reversed(times.items())]:
            assert bench.plans.target(generation, "es", time, tags_) == target

    clock.run(scenario())


def test_times_in_utc_share_a_key_as_far_as_the_template_looks() -> None:
    assert time_key(b"2026-11-21T23:00:00Z", 10) == time_key(b"2026-11-21T01:00:00.5+00:00", 10) == b"2026-11-21"
    assert time_key(b"2026-11-21T23:00:00+05:30", 10) == b"2026-11-21T23:00:00+05:30"


def test_other_tags_of_a_record_give_another_target() -> None:
    async def scenario() -> None:
        rule = tags(add("audit.x", {"message": "a"}))
        bench = Bench(FakeOutput(target="logs-{tag}", match=("audit.*", "kube.*")), filters=[rule])
        generation = generation_of(bench)
        own = bench.plans.of(generation).plan.tags
        first = bench.plans.target(generation, "es", b"", own)
        assert (first, bench.plans.target(generation, "es", b"", ("audit.x",))) == (f"logs-{TAG}", "logs-audit.x")
        assert bench.plans.target(generation, "es", b"", own) == first

    clock.run(scenario())


def test_targets_and_envelopes_of_a_container_are_bounded() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(target="logs-{time:%H%M}"))
        generation = generation_of(bench)
        prepared = bench.plans.of(generation)
        for minute in range(4 * MOST_ENVELOPES):
            time = b"2026-11-21T%02d:%02d:00Z" % divmod(minute, 60)
            target = bench.plans.target(generation, "es", time, prepared.plan.tags)
            assert target == f"logs-{minute // 60:02d}{minute % 60:02d}"
            bench.plans.envelope(generation, "es", target)
            assert max(len(prepared.targets), len(prepared.envelopes)) <= MOST_ENVELOPES

    clock.run(scenario())


def test_a_plan_is_made_anew_when_the_format_is_known() -> None:
    async def scenario() -> None:
        bench = Bench()
        generation = generation_of(bench)
        generation.format = None
        assert bench.plans.of(generation).frame.format == "text"
        generation.format = "cri"
        assert bench.plans.of(generation).frame.format == "cri"
        assert bench.plans.of(generation) is bench.plans.of(generation)

    clock.run(scenario())


def test_targets_know_the_node_and_documents_the_static_fields() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(target="logs-{node}"), static={"cluster": "prod"})
        assert {"cluster", "@timestamp", "kubernetes", "stream", "_id"} <= bench.plans.of(
            generation_of(bench)
        ).frame.reserved
        bench.generations.clear()
        bench.open(line(0, '{"cluster":"mine"}'))
        await bench.finish()
        ((target, document),) = bench.outputs["es"].sent
        assert target == "logs-node-1"
        assert b'"cluster":"prod"' in document

    clock.run(scenario())


def test_a_container_has_ended_when_its_pods_status_says_so() -> None:
    async def scenario() -> None:
        for told, has_ended in ((Metadata(terminated=True), True), (LABELLED, False), (Lookup.UNKNOWN, False)):
            bench = Bench(filters=[KUBERNETES], metadata=Known(told))
            assert bench.plans.has_ended(generation_of(bench)) is has_ended

    clock.run(scenario())


def test_a_local_file_asks_nobody_for_metadata() -> None:
    async def scenario() -> None:
        bench = Bench(filters=[KUBERNETES, drop({"message": "x"})], metadata=Known(Lookup.UNKNOWN), wait_s=5)
        generation = bench.open(b"a\n", source=FILE, framing="text")
        await bench.finish()
        bench.check()
        assert fates([generation], "es") == {"delivered": 2}

    clock.run(scenario())


def test_of_many_files_that_are_read_plans_are_forgotten_once_and_kept_when_they_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plans_module, "MOST_AT_REST", 1)

    async def scenario() -> None:
        bench = Bench(filters=[KUBERNETES], metadata=Known(LABELLED))
        few = bench.open(line(0))
        await bench.finish()
        plan = bench.plans.of(few)
        many = bench.open(line(0), source=OTHER)
        first = bench.plans.of(many)
        await bench.finish()
        assert bench.plans.of(few) is plan
        second = bench.plans.of(many)
        assert second is not first
        bench.write(many, line(1))
        await bench.finish()
        assert bench.plans.of(many) is second
        bench.check()
        assert all(b'"labels":{"app":"web"}' in document for document in bench.outputs["es"].documents)

    clock.run(scenario())


def test_a_plan_that_nobody_asks_for_is_forgotten_after_a_while() -> None:
    async def scenario() -> None:
        bench = Bench()
        used, unused = generation_of(bench), Generation(2, FILE, FILE.path, TAG, format="cri")
        bench.plans.tend(0.0)
        plans = bench.plans.of(used), bench.plans.of(unused)
        bench.plans.tend(UNUSED_S / 2)
        bench.plans.tend(UNUSED_S)
        assert bench.plans.of(used) is plans[0]
        bench.plans.tend(2 * UNUSED_S)
        assert bench.plans.of(used) is plans[0]
        assert bench.plans.of(unused) is not plans[1]
        bench.plans.tend(3 * UNUSED_S)
        bench.plans.forget(used)  # its metadata has changed
        assert bench.plans.of(used) is not plans[0]

    clock.run(scenario())
