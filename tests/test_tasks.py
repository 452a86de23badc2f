"""TaskGuard: names, restarts with growing delays, and an end for every way to end."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from shipper import tasks
from shipper.metrics import Metrics
from shipper.tasks import TaskEnded, TaskGuard


class Time:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Flaky:
    """Fails `failures` times, each run lasting `lasts_s`, then returns."""

    def __init__(self, failures: int, *, time: Time, lasts_s: Callable[[int], float] = lambda _: 0.0) -> None:
        self.runs = 0
        self._failures = failures
        self._time = time
        self._lasts_s = lasts_s

    async def run(self) -> None:
        self.runs += 1
        self._time.now += self._lasts_s(self.runs)
        if self.runs <= self._failures:
            raise ValueError("broken")


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_block_ends_when_every_task_has_ended() -> None:
    done: list[str] = []

    async def note(word: str) -> None:
        done.append(word)

    async with TaskGuard() as guard:
        task = guard.start(note, "a", name="first")
        guard.start(note, "b", name="second")

    assert sorted(done) == ["a", "b"]
    assert task.get_name() == "first"


async def test_failure_without_restart_cancels_the_others_and_names_the_task() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    others: list[asyncio.Task[None]] = []

    async def run_both() -> None:
        async with TaskGuard() as guard:
            others.append(guard.start(for_ever, name="other"))
            guard.start(fail, name="reader")

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()

    assert others[0].cancelled()
    (failure,) = caught.value.exceptions
    assert isinstance(failure, ValueError)
    assert failure.__notes__ == ["in the task 'reader'"]


async def test_endless_task_that_returns_is_an_error() -> None:
    async def return_at_once() -> None:
        pass

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGuard() as guard:
            guard.start(return_at_once, name="watch", endless=True)

    (failure,) = caught.value.exceptions
    assert isinstance(failure, TaskEnded)
    assert "'watch'" in str(failure)


async def test_restarted_task_is_logged_counted_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    time, metrics = Time(), Metrics()
    flaky = Flaky(2, time=time)

    async with TaskGuard(errors=metrics.task_errors, sleep=time.sleep, clock=time.clock) as guard:
        guard.start(flaky.run, name="watch", restart_s=1)

    assert flaky.runs == 3
    assert time.slept == [1, 2]
    assert metrics.registry.get_sample_value("shipper_task_errors_total", {"task": "watch"}) == 2
    assert [(r.levelno, r.exc_info is not None) for r in caplog.records] == [(logging.ERROR, True)] * 2


async def test_restart_delay_doubles_up_to_thirty_seconds() -> None:
    time = Time()
    async with TaskGuard(sleep=time.sleep, clock=time.clock) as guard:
        guard.start(Flaky(7, time=time).run, name="watch", restart_s=1)
    assert time.slept == [1, 2, 4, 8, 16, 30, 30]


async def test_restart_delay_begins_anew_after_a_long_run() -> None:
    time = Time()
    flaky = Flaky(4, time=time, lasts_s=lambda run: 31 if run == 3 else 0)
    async with TaskGuard(sleep=time.sleep, clock=time.clock) as guard:
        guard.start(flaky.run, name="watch", restart_s=1)
    assert time.slept == [1, 2, 1, 2]


async def test_endless_task_that_returns_is_restarted_too(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    flaky = Flaky(0, time=time)

    async def sleep_twice(seconds: float) -> None:
        await time.sleep(seconds)
        if len(time.slept) == 2:
            guard.cancel()
            await for_ever()

    async with TaskGuard(sleep=sleep_twice, clock=time.clock) as guard:
        guard.start(flaky.run, name="watch", endless=True, restart_s=0.5)

    assert flaky.runs == 2
    assert "TaskEnded" in caplog.text


async def test_cancel_ends_every_task_without_an_error() -> None:
    async with TaskGuard() as guard:
        tasks = [guard.start(for_ever, name=f"task {i}", endless=True, restart_s=1) for i in range(3)]
        guard.cancel()
    assert all(task.cancelled() for task in tasks)


async def test_task_started_after_cancel_never_runs() -> None:
    runs: list[int] = []

    async def run() -> None:
        runs.append(1)

    async with TaskGuard() as guard:
        guard.cancel()
        guard.start(run, name="late")
    assert runs == []


async def test_repr_names_the_running_tasks() -> None:
    async with TaskGuard() as guard:
        guard.start(for_ever, name="watch")
        guard.start(for_ever, name="commit")
        assert repr(guard) == "<TaskGuard commit, watch>"
        guard.cancel()


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries do, when it comes amid their own clean-up."""
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_S", 0.01)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    async with TaskGuard() as guard:
        guard.start(stubborn, name="stubborn", endless=True)
        await asyncio.sleep(0)
        guard.cancel()
    assert swallowed == 3
