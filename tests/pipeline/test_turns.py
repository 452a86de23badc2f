"""Whose turn it is: on the loop that the daemon runs on, whose shortest timers are none."""

import asyncio

import uvloop

from shipper.inputs.tail.generation import Generation
from shipper.pipeline.turns import Turns
from tests.pipeline.bench import POD


def test_the_earliest_of_several_times_counts_however_near_it_is() -> None:
    async def scenario() -> None:
        turns, generation = Turns(), Generation(1, POD, POD.path, "kube")
        turns.later(generation, 60.0)
        turns.later(generation, 1e-6)
        turns.later(generation, 30.0)
        async with asyncio.timeout(100):
            await turns.wait()
        assert turns.next() is generation

    uvloop.run(scenario())
