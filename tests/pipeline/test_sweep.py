"""What a sweep takes becomes the same as by jobs and lanes, in fewer steps; what is not ordinary it leaves to them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper import native
from shipper.delivery import Piece
from shipper.filters.config import FilterConfig
from shipper.inputs.tail.generation import Generation
from shipper.ledger import SentBefore
from shipper.outputs.worker import OutputWorker
from shipper.pipeline import sweep as sweeping
from shipper.record import State
from tests.fakes import clock
from tests.pipeline.bench import ARCHIVE, FILE, PLAIN, Bench, FakeOutput, file_of, line, messages
from tests.pipeline.test_lanes import FILTERS, FORMS, MATCHES, TARGETS, TIMES

pytestmark = pytest.mark.skipif(native.MODULE is None, reason=f"the native encoder is not used: {native.WHY_NOT}")

BODIES = ("hello", "noise", "", '{"category":"audit","level":"debug"}', '{"stream":1}', "caf\xe9")
LINES = st.builds(
    lambda body, tag, stream, time: f"{time} {stream} {tag} {body}\n".encode("latin-1"),
    st.sampled_from(BODIES),
    st.sampled_from(("F", "F", "F", "F", "P")),
    st.sampled_from(("stdout", "stdout", "stderr")),
    st.sampled_from((TIMES[0], *TIMES)),
)
ENDS = st.lists(LINES | st.sampled_from((b"no CRI line\n", b"\n", b"half a li")), min_size=1, max_size=4).map(b"".join)
OUTPUTS = st.lists(
    st.tuples(st.sampled_from(sorted(FORMS)), st.sampled_from(TARGETS), st.sampled_from(MATCHES), st.integers(0, 3)),
    min_size=1,
    max_size=3,
)
Steps = Sequence[tuple[int, bytes] | None]  # what is written to which file; None: all are read


def outputs_of(kinds: Sequence[tuple[str, str, tuple[str, ...], int]]) -> list[FakeOutput]:
    """Some of them hold little."""
    return [
        FakeOutput(f"o{i}", form=FORMS[form], target=target, match=match, limit_bytes=300 if small == 3 else 1 << 24)
        for i, (form, target, match, small) in enumerate(kinds)
    ]


def told(bench: Bench) -> dict[str, Any]:
    """All that anybody learns of what was read."""
    cursors = [
        (c.output, c.position, c.state, c.ahead, c.acked, c.acked_state, c.fates, c.segments)
        for g in bench.generations
        for c in g.cursors.values()
    ]
    counted = [
        (sample.name, sample.labels, sample.value)
        for family in bench.metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith(("shipper_input", "shipper_filter", "shipper_output_records", "shipper_output_bytes"))
    ]
    reached = [g.read_to for g in bench.generations]
    return {
        "sent": {name: sorted(output.sent) for name, output in bench.outputs.items()},
        "cursors": cursors,
        "read_to": reached,
        "counted": sorted(counted, key=str),
    }


async def follow(steps: Steps, *, outputs: list[FakeOutput], filters: Sequence[FilterConfig], short: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "SHORT_BYTES", short)
        bench = Bench(*outputs, filters=filters)
        files = [bench.open(line(i)) for i in range(3)]
        for step in steps:
            if step is None:
                await bench.finish()
            else:
                bench.write(files[step[0]], step[1])
        await bench.pass_time(10)
        for _ in range(50):  # an output that holds little needs many turns
            await bench.finish()
        return told(bench)


@given(
    steps=st.lists(st.none() | st.tuples(st.integers(0, 2), ENDS), max_size=12),
    kinds=OUTPUTS,
    filters=st.sampled_from(sorted(FILTERS)),
)
@settings(max_examples=150, deadline=None)
def test_what_is_swept_becomes_the_same_as_by_jobs(
    steps: Steps, kinds: Sequence[tuple[str, str, tuple[str, ...], int]], filters: str
) -> None:
    swept, by_jobs = (
        clock.run(follow(steps, outputs=outputs_of(kinds), filters=FILTERS[filters], short=short))
        for short in (sweeping.SHORT_BYTES, 0)
    )
    assert swept == by_jobs


# -- by name ----------------------------------------------------------------------------------------------------------


def scenario(run: Callable[[Bench], Any], *outputs: FakeOutput) -> None:
    async def whole() -> None:
        bench = Bench(*outputs)
        await run(bench)
        await bench.finish()
        bench.check()

    clock.run(whole())


def spy_on_add(worker: OutputWorker) -> list[int]:
    """How many pieces come at once."""
    counts, add = list[int](), worker.add

    def counted(pieces: Sequence[Piece]) -> None:
        counts.append(len(pieces))
        add(pieces)

    worker.add = counted  # type: ignore[method-assign]
    return counts


def test_the_ends_of_many_files_are_one_step_and_one_read_each() -> None:
    async def run(bench: Bench) -> None:
        files = [bench.open(line(i, f"{i}")) for i in range(100)]
        added = [spy_on_add(worker) for worker in bench.workers.values()]
        assert bench.pump.choose() == []
        assert added == [[100], [100]]
        assert {len(file_of(generation).reads) for generation in files} == {1}
        await bench.finish()
        for output in bench.outputs.values():
            assert sorted(map(int, messages(output))) == list(range(100))

    scenario(run, FakeOutput("a"), FakeOutput("b", form=ARCHIVE, target="logs-{time:%Y}"))


def test_so_many_files_are_swept_that_others_have_their_turn() -> None:
    async def run(bench: Bench) -> None:
        for i in range(sweeping.SWEPT_FILES + 7):
            bench.open(line(i))
        bench.round()
        assert len(bench.pump._turns) == 7

    scenario(run)


def test_a_batch_leaves_when_it_is_full_in_the_midst_of_a_sweep() -> None:
    async def run(bench: Bench) -> None:
        for i in range(30):
            bench.open(line(i, "x" * 50))
        bench.round()
        (worker,) = bench.workers.values()
        assert worker.filled_bytes < worker.batch_bytes
        assert all(len(batch.body) < 1500 for batch in worker._sealed)
        assert len(worker._sealed) >= 5

    scenario(run, FakeOutput(max_batch_bytes=1000))


def test_an_output_that_has_become_full_in_the_midst_of_a_sweep_gets_nothing_more() -> None:
    async def run(bench: Bench) -> None:
        for i in range(30):
            bench.open(line(i, "x" * 50))
        bench.rounds()
        (worker,) = bench.workers.values()
        assert worker.used_bytes < 2500
        for _ in range(30):
            await bench.deliver()
            bench.rounds()

    scenario(run, FakeOutput(max_batch_bytes=500, limit_bytes=1000))


def final(bench: Bench, generation: Generation) -> None:
    generation.is_final = True


def not_durable(bench: Bench, generation: Generation) -> None:
    generation.must_commit_first = True


def to_be_found(bench: Bench, generation: Generation) -> None:
    generation.awaits_scan = True


def limited(bench: Bench, generation: Generation) -> None:
    generation.limit = 10


def closed(bench: Bench, generation: Generation) -> None:
    generation.file = None


def failing(bench: Bench, generation: Generation) -> None:
    file_of(generation).errors.append(OSError(5, "Input/output error"))


def shortened(bench: Bench, generation: Generation) -> None:
    file_of(generation).data = file_of(generation).data[:-3]


def without_an_end(bench: Bench, generation: Generation) -> None:
    file_of(generation).data = file_of(generation).data[:-1]
    generation.size -= 1


def long(bench: Bench, generation: Generation) -> None:
    bench.write(generation, line(1, "x" * sweeping.SHORT_BYTES))


def behind_another(bench: Bench, generation: Generation) -> None:
    generation.previous = bench.open(line(7))
    generation.previous.file = None


def sent_before(bench: Bench, generation: Generation) -> None:
    for cursor in generation.cursors.values():
        cursor.sent_before = SentBefore(1, 1.0)


def cut(bench: Bench, generation: Generation) -> None:
    for cursor in generation.cursors.values():
        cursor.state = State(cut=(b"stdout",))


def inside(bench: Bench, generation: Generation) -> None:
    for cursor in generation.cursors.values():
        cursor.state = State(inside=b"stdout P")


def ahead(bench: Bench, generation: Generation) -> None:
    for cursor in generation.cursors.values():
        cursor.ahead = ((1, 2),)


def apart(bench: Bench, generation: Generation) -> None:
    next(iter(generation.cursors.values())).position = 1


NOT_ORDINARY: Mapping[str, Callable[[Bench, Generation], None]] = {
    each.__name__: each
    for each in (
        final, not_durable, to_be_found, limited, closed, failing, shortened, without_an_end, long, behind_another,
        sent_before, cut, inside, ahead, apart,
    )
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_ORDINARY)
def test_what_is_not_ordinary_is_left_as_it_was(kind: str) -> None:
    async def run() -> None:
        bench = Bench(FakeOutput("a"), FakeOutput("b", form=PLAIN))
        generation = bench.open(line(1) + line(2))
        NOT_ORDINARY[kind](bench, generation)
        before = [(c.position, c.state, c.ahead, c.segments) for c in generation.cursors.values()]
        sweep = bench.pump._sweep
        sweep.begin(clock.now())
        assert not sweep.take(generation)
        sweep.end()
        assert [(c.position, c.state, c.ahead, c.segments) for c in generation.cursors.values()] == before
        assert not any(len(worker.body) for worker in bench.workers.values())
        assert generation.read_to == 0
        assert bench.records() == 0

    clock.run(run())


def test_local_files_are_left_to_jobs() -> None:
    async def run(bench: Bench) -> None:
        generation = bench.open(b"hello\n", source=FILE, framing="text")
        (job,) = bench.pump.choose()
        bench.pump.changed(job.generation)
        generation.is_final = True

    scenario(run)


def test_the_last_output_to_decline_leaves_nothing_in_the_batches_of_the_others() -> None:
    """The time of the second record is another one's target."""

    async def run(bench: Bench) -> None:
        bench.open(line(1, time=TIMES[0]) + line(2, time=TIMES[1]))
        (job,) = bench.pump.choose()
        assert not any(len(worker.body) for worker in bench.workers.values())
        bench.pump.changed(job.generation)

    scenario(run, FakeOutput("a"), FakeOutput("b", target="logs-{time:%H}"))
