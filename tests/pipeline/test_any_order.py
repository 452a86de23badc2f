"""Writes, rotations, answers, refusals, time and crashes in any order: no line is missing, and none is there twice."""

import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shipper.pipeline import sweep
from tests.fakes import clock
from tests.pipeline.bench import Bench, FakeOutput, line

_NUMBER = re.compile(rb"<(\d+)>")
_ID = re.compile(rb'"_id":"([^"]*)"')

WRITES = st.tuples(
    st.just("write"), st.sampled_from(("F", "F", "P")), st.sampled_from(("stdout", "stderr")), st.integers(1, 40)
)
STEPS = st.one_of(
    WRITES,
    WRITES,
    st.tuples(st.just("round")),
    st.tuples(st.just("deliver"), st.sampled_from(("es", "s3"))),
    st.tuples(st.just("pass"), st.sampled_from((0.1, 1.0, 4.0, 10.0))),
    st.tuples(st.just("half")),
    st.tuples(st.just("rotate")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("exchange"), st.sampled_from(("es", "s3"))),
)


class Story:
    """A container that writes, and a shipper whose outputs hold little."""

    def __init__(self, limits: tuple[int, int]) -> None:
        es, s3 = limits
        self.bench = Bench(FakeOutput("es", limit_bytes=es), FakeOutput("s3", limit_bytes=s3), limit=200)
        self.live = self.bench.open()
        self.written = 0
        self.half = b""  # of a line: its end
        self.is_rotated = False  # a new file is there once it has a line: the catalogue sees to that

    def check(self) -> None:
        """The ledger's equation, for every file and output, at this moment."""
        for generation in self.bench.generations:
            for cursor in generation.all_cursors():
                cursor.check()
                assert sum(cursor.fates.values()) + cursor.pending(generation.size) == generation.size

    async def step(self, name: str, *arguments: object) -> None:
        match name, arguments:
            case "write", (str(tag), str(stream), int(length)):
                self._write(line(self.written, f"<{self.written}>" + "x" * length, tag=tag, stream=stream))
                self.written += 1
            case "half", ():
                text = line(self.written, f"<{self.written}>")
                self.written += 1
                cut = len(text) if self.is_rotated else 20
                self._write(text[:cut])
                self.half = text[cut:]
            case "round", ():
                self.bench.round()
            case "deliver", (str(output),):
                await self.bench.deliver(output)
            case "pass", (float(seconds),):
                await self.bench.pass_time(seconds)
            case "rotate", ():
                self._write(b"")
                self.is_rotated = True
            case "commit", ():
                self.bench.commit()
            case "exchange", (str(output),):
                self.bench.exchange(output)
            case "crash", ():
                self.bench.restart()

    def _write(self, data: bytes) -> None:
        """After the rest of a line that was begun."""
        if self.is_rotated and data:
            self.is_rotated = False
            self._finish_all_but_live()
            self.live = self.bench.open(data, before=self.live)
        else:
            self.bench.write(self.live, self.half + data)
        self.half = b""

    def _finish_all_but_live(self) -> None:
        """As the catalogue does: what has two newer files is final."""
        for generation in self.bench.generations[:-1]:
            generation.is_final = True
            self.bench.pump.changed(generation)

    async def end(self) -> None:
        self._write(b"")
        self._finish_all_but_live()
        self.live.is_final = True
        self.bench.pump.changed(self.live)
        for _ in range(400):
            await self.bench.finish()
            await self.bench.pass_time(10)
            if not any(g.has_unread() for g in self.bench.generations):
                break
        await self.bench.finish()

    def told(self, output: str) -> Counter[int]:
        """How often each line is in documents of different ids."""
        documents = {_id(document): document for document in self.bench.outputs[output].documents}
        return Counter(int(n) for document in documents.values() for n in _NUMBER.findall(document))


def _id(document: bytes) -> bytes:
    found = _ID.search(document)
    assert found is not None
    return found[1]


@given(
    limits=st.tuples(st.sampled_from((1, 300, 1 << 20)), st.sampled_from((1, 300, 1 << 20))),
    steps=st.lists(STEPS, max_size=40),
    short=st.sampled_from((sweep.SHORT_BYTES, 0)),
)
@example(limits=(1, 1 << 20), steps=[("write", "P", "stdout", 1), ("write", "F", "stderr", 1), ("pass", 4.0)], short=0)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_line_arrives_once(limits: tuple[int, int], steps: list[tuple[object, ...]], short: int) -> None:
    """By id; with and without sweeps."""

    async def scenario() -> None:
        story = Story(limits)
        for name, *arguments in steps:
            await story.step(str(name), *arguments)
            story.check()
        await story.end()
        story.bench.check()
        for output in story.bench.outputs:
            told = story.told(output)
            assert sorted(told) == list(range(story.written))
            assert set(told.values()) <= {1}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "SHORT_BYTES", short)
        clock.run(scenario())
