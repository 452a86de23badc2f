"""Attempts at another configuration: one at a time, each answered, and none that changes anything when it is wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shipper.errors import ConfigError, Problem, ShipperError
from shipper.metrics import Metrics
from shipper.reload import NotNow, Outcome, Reloader, Torn

DONE = Outcome(result="done", changed=("filters",))
PROBLEMS = [Problem("shipper.yaml", 5, 3, "outputs[0]", "is wrong"), Problem("shipper.yaml", 7, 1, "", "is worse")]


class Bench:
    """A configuration is a number: how often it was read."""

    def __init__(self) -> None:
        self.reads = 0
        self.taken: list[int] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.metrics = Metrics()
        self.reloader = Reloader(self.read, self.take_over, self.metrics)

    def read(self) -> int:
        self.reads += 1
        return self.reads

    async def take_over(self, config: int) -> Outcome:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.taken.append(config)
        return DONE

    def count(self, result: str) -> float:
        return float(self.metrics.config_reloads.labels(result)._value.get())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.get_running_loop().create_task(self.reloader.run())
        yield task
        task.cancel()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_a_request_is_answered_with_what_became_of_it(bench: Bench) -> None:
    async with bench.running():
        assert await bench.reloader.reload() == DONE
        assert await bench.reloader.answer() == (
            200,
            {"result": "done", "changed": ("filters",), "needs_restart": (), "problems": ()},
        )
    assert bench.count("done") == 2
    assert bench.reloader.status()["last_success_at"] == bench.reloader.status()["last_at"]


@pytest.mark.parametrize(
    ("error", "problems"),
    [
        (ConfigError(PROBLEMS), ("shipper.yaml:5:3: outputs[0]: is wrong", "shipper.yaml:7:1: is worse")),
        (ShipperError("output es cannot be started"), ("output es cannot be started",)),
        (ZeroDivisionError(), ("the reload failed: see the daemon's log",)),
    ],
    ids=["wrong", "cannot start", "bug"],
)
async def test_a_refusal_names_every_problem(bench: Bench, error: Exception, problems: tuple[str, ...]) -> None:
    bench.error = error
    async with bench.running():
        status, said = await bench.reloader.answer()
    assert (status, said["result"], said["problems"]) == (422, "refused", problems)
    assert bench.count("refused") == 1
    assert bench.reloader.status()["last_success_at"] is None


async def test_signals_that_come_together_are_one_attempt(bench: Bench) -> None:
    async with bench.running():
        for _ in range(5):
            bench.reloader.ask()
        await until(lambda: bench.taken)
    assert bench.taken == [1]


async def test_whoever_asks_while_one_is_under_way_has_the_file_read_again(bench: Bench) -> None:
    """It may have been written since."""
    bench.gate.clear()
    async with bench.running():
        bench.reloader.ask()
        await until(lambda: bench.reads == 1)
        bench.reloader.ask()
        late = asyncio.get_running_loop().create_task(bench.reloader.reload())
        await asyncio.sleep(0)
        bench.gate.set()
        assert await late == DONE
    assert bench.taken == [1, 2]


async def test_from_the_stop_on_nobody_waits_in_vain(bench: Bench) -> None:
    waiting = asyncio.get_running_loop().create_task(bench.reloader.answer())
    await asyncio.sleep(0)
    bench.reloader.refuse("the daemon is stopping")
    assert (await waiting)[0] == 409
    with pytest.raises(NotNow, match="stopping"):
        await bench.reloader.reload()


async def test_not_now_is_no_attempt(bench: Bench) -> None:
    bench.error = NotNow("the daemon is stopping")
    async with bench.running():
        assert (await bench.reloader.answer())[0] == 409
    assert bench.reloader.status()["last"] is None


async def test_who_stands_between_two_configurations_ends(bench: Bench) -> None:
    bench.error = Torn("between")
    async with bench.running() as task:
        assert (await bench.reloader.answer())[0] == 409
        with pytest.raises(Torn):
            await task


async def test_one_who_hangs_up_keeps_no_other_from_an_answer(bench: Bench) -> None:
    asks: list[Awaitable[Outcome]] = []
    gone = asyncio.get_running_loop().create_task(bench.reloader.reload())
    await asyncio.sleep(0)
    asks.append(asyncio.get_running_loop().create_task(bench.reloader.reload()))
    await asyncio.sleep(0)
    gone.cancel()
    async with bench.running():
        assert await asks[0] == DONE
