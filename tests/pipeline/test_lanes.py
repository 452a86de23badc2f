"""What a chunk becomes: each record goes where it would go by itself, and each byte has exactly one fate."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.delivery import Batch, Delivery, Rejection
from shipper.encode import encode, write
from shipper.filters.base import Lookup, Metadata
from shipper.filters.config import FilterConfig
from shipper.filters.json import JsonConfig
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.frame import Target
from shipper.inputs.tail.generation import Generation
from shipper.ledger import DEAD, DELIVERED, UNMATCHED
from shipper.parsers import Records, parse
from shipper.pipeline.lanes import Chunk, Lanes
from shipper.pipeline.plans import Prepared
from shipper.pipeline.pump import HOLD_S, TAIL_S
from shipper.pipeline.routed import Routed
from shipper.record import Source
from shipper.router import EMPTY, Choice, fits
from tests.fakes import clock
from tests.pipeline.bench import ARCHIVE, FILE, PLAIN, POD, TAG, Bench, FakeOutput, fates, line, messages
from tests.test_router import add, drop, put, tags

AUDIT = {"field": "category", "equals": "audit"}
NOISE = {"message": None, "matches": "noise"}
FILTERS: dict[str, Sequence[FilterConfig]] = {
    "none": (),
    "tag": (tags(add("audit", AUDIT)),),
    "drop": (drop({"message": "noise"}),),
    "drop by field": (JsonConfig(), drop({"field": "level", "equals": "debug"})),
    "replaced tag": (tags(put("audit", AUDIT)), drop({"stream": "stderr"}, match="kube.*")),
    "dropped": (drop({"namespace": "shop"}),),
}
TARGETS = ("logs", "logs-{time:%Y.%m.%d.%H}", "logs-{field:category}", "logs-{tag}")
MATCHES = (("*",), ("kube.*",), ("audit",), ("nothing",))
FORMS = {"bulk": (b'{"create":{"_id":"', b'"}}\n{'), "archive": ARCHIVE, "plain": PLAIN}
TIMES = ("2026-11-21T10:59:59.9Z", "2026-11-21T11:00:00Z", "2026-11-21T11:00:00+05:30", "2026-11-21T16:29:59+05:30")
BODIES = ("hello", "noise", "", '{"category":"audit","level":"debug"}', '{"category":"audit"}', '{"level":"info"}')

LINES = st.builds(
    lambda body, tag, stream, time: f"{time} {stream} {tag} {body}\n".encode(),
    st.sampled_from(BODIES),
    st.sampled_from(("F", "F", "F", "P")),
    st.sampled_from(("stdout", "stdout", "stderr")),
    st.sampled_from(TIMES),
)
pytestmark = pytest.mark.usefixtures("quiet", "by_jobs")
OUTPUTS = st.lists(
    st.tuples(st.sampled_from(sorted(FORMS)), st.sampled_from(TARGETS), st.sampled_from(MATCHES)),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Rejections are errors, and are said as such: hundreds here."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def make_outputs(chosen: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[FakeOutput]:
    return [
        FakeOutput(f"out-{i}", form=FORMS[form], target=target, match=match)
        for i, (form, target, match) in enumerate(chosen)
    ]


def expected(
    bench: Bench, generation: Generation, records: Records, output: FakeOutput
) -> tuple[Counter[tuple[str, bytes]], int]:
    """-> (target, document) of what the output takes, each record asked by itself; and its bytes in the file."""
    plan, found = bench.router.plan(generation.source, TAG, EMPTY), Counter[tuple[str, bytes]]()
    taken_bytes = 0
    for i in range(len(records)):
        one = Routed(records, plan).record(i)
        dropped, tags_ = plan.route(one)
        if plan.dropped or dropped or not fits(output.match, tags_):
            continue

        def value(kind: str, name: str, own: tuple[str, ...] = tags_, one: Mapping[str, Any] = one) -> str | None:
            if kind == "tag":
                return next(tag for tag in own if fits(output.match, (tag,)))
            return one["field"](name) if kind == "field" else None

        target = output.template.render(value, style="index", time=records.times[i])
        envelope, into = bench.plans.envelope(generation, output.name, target), bytearray()
        write(records.select([k == i for k in range(len(records))]), bench.plans.of(generation).frame, envelope, into)
        found[target, bytes(into)] += 1
        taken_bytes += records.sizes[i]
    return found, taken_bytes


@pytest.mark.parametrize("filters", FILTERS)
@given(text=st.lists(LINES, max_size=12).map(b"".join), chosen=OUTPUTS, refused=st.sets(st.integers(0, 8)))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_each_record_goes_where_it_would_go_by_itself_and_each_byte_has_one_fate(
    filters: str, text: bytes, chosen: Sequence[tuple[str, str, tuple[str, ...]]], refused: set[int]
) -> None:
    def answer(batch: Batch) -> Delivery:
        return Delivery(rejected=tuple(Rejection(i, "bad") for i in sorted(refused) if i < batch.records))

    async def scenario() -> None:
        outputs = make_outputs(chosen)
        bench = Bench(*outputs, filters=FILTERS[filters])
        generation = bench.open(text, is_final=True)
        records = parse(text, 0, "cri", state=generation.start_state(), final=True)
        for output in outputs:
            output.answers = [answer]
        await bench.finish()
        bench.check()
        for output in outputs:
            wanted, taken_bytes = expected(bench, generation, records, output)
            letters = [letter for letter in bench.letters.kept if letter.output == output.name]
            found = Counter(output.sent)
            assert found <= wanted
            assert wanted.total() == found.total() + len(letters)
            told = fates([generation], output.name) if output.name in generation.cursors else Counter()
            extents = dict(zip(zip(records.begins, records.ends, strict=True), records.sizes, strict=True))
            assert all(extents[letter.begin, letter.end] == letter.source_bytes for letter in letters)
            assert told[DEAD] == sum(letter.source_bytes for letter in letters)
            assert told[DELIVERED] + told[DEAD] == taken_bytes

    clock.run(scenario())


def test_an_interleaved_record_is_charged_its_own_lines_where_another_filter_took_those_between() -> None:
    async def scenario() -> None:
        output = FakeOutput(answers=[lambda _: Delivery(rejected=(Rejection(0, "bad"),))])
        bench = Bench(output, filters=[drop({"stream": "stderr"})])
        other = line(1, "err", stream="stderr")
        generation = await run(bench, line(0, "be", tag="P") + other + line(2, "gun"))
        assert fates([generation], "es")[DEAD] == generation.size - len(other)

    clock.run(scenario())


def test_a_dead_letter_keeps_its_id_beside_an_output_without_ids() -> None:
    async def scenario() -> None:
        es = FakeOutput(answers=[lambda _: Delivery(rejected=(Rejection(0, "bad"),))])
        bench = Bench(es, FakeOutput("files", form=PLAIN))
        generation = await run(bench, line(0))
        (letter,) = bench.letters.kept
        assert letter.document_id == f"{generation.id_base}-0-{generation.size:x}"

    clock.run(scenario())


# -- by name ----------------------------------------------------------------------------------------------------------


async def run(bench: Bench, text: bytes, *, source: Source = POD) -> Generation:
    generation = bench.open(text, source=source, framing="cri" if source.is_container else "text", is_final=True)
    await bench.finish()
    bench.check()
    return generation


def test_the_raw_lane_and_the_record_lane_write_the_same_documents() -> None:
    async def scenario() -> None:
        raw = Bench(FakeOutput(), FakeOutput("other", match=("nothing",)))
        by_record = Bench(FakeOutput(), filters=[drop({"message": "x"})])
        text = line(0) + line(1, '{"a":1}', stream="stderr") + line(2, "be", tag="P") + line(3, "gun")
        for bench in (raw, by_record):
            await run(bench, text)
        assert raw.outputs["es"].sent == by_record.outputs["es"].sent
        into = bytearray()
        generation = raw.generations[0]
        envelope = raw.plans.envelope(generation, "es", "logs")
        frame, targets = raw.plans.of(generation).frame, [Target(envelope, into)]
        encode(text, 0, frame, targets, final=True, state=generation.start_state())
        assert b"".join(raw.outputs["es"].documents) == into

    clock.run(scenario())


def test_outputs_of_different_forms_get_the_same_records() -> None:
    async def scenario() -> None:
        bench = Bench(*(FakeOutput(name, form=form) for name, form in FORMS.items()))
        await run(bench, line(0, "a") + line(1, "b"))
        assert {name: messages(output) for name, output in bench.outputs.items()} == {
            name: ["a", "b"] for name in FORMS
        }

    clock.run(scenario())


def test_a_rejected_record_of_an_interleaved_group_is_charged_its_own_lines_only() -> None:
    async def scenario() -> None:
        for form in FORMS.values():
            output = FakeOutput(form=form, answers=[lambda _: Delivery(rejected=(Rejection(1, "bad"),))])
            bench = Bench(output)
            other = line(1, "err", stream="stderr")
            generation = await run(bench, line(0, "be", tag="P") + other + line(2, "gun"))
            own = generation.size - len(other)
            assert fates([generation], "es") == {DEAD: own, DELIVERED: len(other)}
            assert bench.letters.kept[0].source_bytes == own

    clock.run(scenario())


def test_records_over_an_hours_border_go_to_two_targets_in_order() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(target="logs-{time:%H}"))
        await run(bench, b"".join(line(i, str(i), time=time) for i, time in enumerate(TIMES)))
        assert [target for target, _ in bench.outputs["es"].sent] == ["logs-10", "logs-10", "logs-11", "logs-05"]
        assert sorted(messages(bench.outputs["es"])) == ["0", "1", "2", "3"]

    clock.run(scenario())


def test_empty_lines_of_a_local_file_are_filtered_and_counted() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(form=PLAIN))
        generation = await run(bench, b"a\n\n\nb\n", source=FILE)
        assert fates([generation], "es") == {"filtered:pods:empty": 2, DELIVERED: 4}
        assert bench.metrics.filter_dropped_records.labels("pods", "empty")._value.get() == 2

    clock.run(scenario())


def test_what_all_is_dropped_is_counted_once_for_all_outputs() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput("a"), FakeOutput("b"), filters=[drop({"namespace": "shop"})])
        generation = await run(bench, line(0) + line(1))
        name = drop({"namespace": "shop"}).name
        assert fates([generation], "a") == fates([generation], "b") == {f"filtered:{name}:dropped": generation.size}
        assert bench.metrics.filter_dropped_records.labels(name, "dropped")._value.get() == 2

    clock.run(scenario())


class Known:
    """A MetadataSource that says what it is told."""

    name = "kubernetes"

    def __init__(self, told: Metadata | Lookup) -> None:
        self.told = told

    def lookup(self, source: Source) -> Metadata | Lookup:
        return self.told

    def on_change(self, callback: Any) -> None: ...

    def retain(self, uids: Any) -> None: ...

    async def run(self) -> None: ...

    async def start(self, state_dir: str | None) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> dict[str, Any]:
        return {}


def test_records_of_an_excluded_pod_are_filtered() -> None:
    async def scenario() -> None:
        bench = Bench(filters=[KubernetesConfig()], metadata=Known(Metadata(excluded=True)))
        generation = await run(bench, line(0))
        assert fates([generation], "es") == {"filtered:kubernetes:excluded": generation.size}

    clock.run(scenario())


def test_an_output_that_waits_since_a_read_began_does_not_get_what_was_read() -> None:
    async def scenario() -> None:
        known = Known(Metadata(labels={"team": "a"}))
        by_label = FakeOutput("by label", target="logs-{label:team}")
        bench = Bench(FakeOutput(), by_label, filters=[KubernetesConfig()], metadata=known)
        generation = bench.open(line(0))
        (job,) = bench.pump.choose()
        known.told = Lookup.UNKNOWN
        bench.plans.forget(generation)
        assert bench.plans.of(generation).plan.choices["by label"] is Choice.WAITS
        job.take(line(0))
        bench.pump.process(job)
        assert bench.positions(generation) == {"es": generation.size, "by label": 0}

    clock.run(scenario())


# -- over a rotation --------------------------------------------------------------------------------------------------


async def rotated(bench: Bench) -> tuple[Generation, Generation]:
    old = bench.open(line(0, "first ") + line(1, "be", tag="P"))
    await bench.finish()
    new = bench.open(line(2, "gun") + line(3, "last"), before=old)
    await bench.finish()
    await bench.finish()
    return old, new


CROSSING = len(line(1, "be", tag="P")), len(line(2, "gun"))


def test_a_rejected_record_over_a_rotation_is_charged_to_both_files() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.outputs["es"].answers = [
            lambda batch: Delivery(),
            lambda batch: Delivery(rejected=(Rejection(0, "bad"),)),
        ]
        old, new = await rotated(bench)
        bench.check()
        assert fates([old], "es")[DEAD] == CROSSING[0]
        assert fates([new], "es")[DEAD] == CROSSING[1]

    clock.run(scenario())


@pytest.mark.parametrize(
    ("filters", "match", "fate"),
    [
        ([drop({"message": "begun"})], "*", f"filtered:{drop({'message': 'begun'}).name}:dropped"),
        ([tags(add("audit", {"message": "last"}))], "audit", UNMATCHED),
    ],
)
def test_a_record_over_a_rotation_that_is_not_taken_has_its_fate_in_both_files(
    filters: Sequence[FilterConfig], match: str, fate: str
) -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(match=(match,)), filters=filters)
        old, new = await rotated(bench)
        bench.check()
        assert "begun" not in messages(bench.outputs["es"])
        assert "last" in messages(bench.outputs["es"])
        assert fates([old], "es")[fate] >= CROSSING[0]
        assert fates([new], "es")[fate] == CROSSING[1]
        assert bench.records() == 3

    clock.run(scenario())


def test_records_ahead_are_counted_once_as_read() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(), FakeOutput("s3"))
        generation = bench.open(line(0, "be", tag="P") + line(1, "err", stream="stderr"))
        bench.rounds()
        await bench.pass_time(HOLD_S + TAIL_S)
        bench.write(generation, line(2, "gun"))
        await bench.finish()
        bench.check()
        assert bench.records() == 2
        assert bench.metrics.input_bytes.labels("pods")._value.get() == generation.size

    clock.run(scenario())


@pytest.mark.parametrize(
    ("times", "ways"), [(TIMES[:1] * 2, "raw"), (TIMES[:2], "by record"), (TIMES[2:], "by record")]
)
def test_several_outputs_take_a_chunk_in_one_go_where_each_has_one_target_for_it(
    monkeypatch: pytest.MonkeyPatch, times: Sequence[str], ways: str
) -> None:
    by_record: list[Chunk] = []
    slow = Lanes._by_record

    def remember(self: Lanes, chunk: Chunk, prepared: Prepared) -> bool:
        by_record.append(chunk)
        return slow(self, chunk, prepared)

    async def scenario() -> None:
        monkeypatch.setattr(Lanes, "_by_record", remember)
        bench = Bench(FakeOutput("es"), FakeOutput("s3", form=ARCHIVE, target="logs-{time:%H}"))
        await run(bench, b"".join(line(i, str(i), time=time) for i, time in enumerate(times)))
        assert ("by record" if by_record else "raw") == ways
        assert messages(bench.outputs["es"]) == messages(bench.outputs["s3"]) == [str(i) for i in range(len(times))]

    clock.run(scenario())


# -- what a second look at the bytes of a chunk depends on ------------------------------------------------------------


def test_a_line_without_a_frame_has_the_time_of_the_line_before_it_though_its_cursor_has_moved() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(target="logs-{time:%H}"))
        generation = bench.open(line(1, time=TIMES[0]))
        await bench.finish()
        bench.write(generation, b"no CRI line\n" + line(2, time=TIMES[0].replace("59.9", "59.95")))
        await bench.finish()
        (odd,) = [document for document in bench.outputs["es"].documents if b"parse_error" in document]
        assert f'"@timestamp":"{TIMES[0]}"'.encode() in odd
        bench.check()

    clock.run(scenario())


def test_what_was_given_out_ahead_is_skipped_though_its_cursor_has_moved() -> None:
    async def scenario() -> None:
        bench = Bench(filters=FILTERS["drop"])
        generation = bench.open(line(1, "head", tag="P", stream="stderr") + line(2, "ahead"))
        await bench.pass_time(2 * HOLD_S)
        await bench.deliver()
        bench.restart()
        assert generation.cursors["es"].ahead
        bench.write(generation, line(3, "tail", stream="stderr"))
        await bench.finish()
        assert messages(bench.outputs["es"]) == ["ahead", "headtail"]
        bench.check()

    clock.run(scenario())
