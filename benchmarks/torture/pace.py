"""Simulated time: so many of its seconds pass in one of ours."""

import asyncio
import random
from dataclasses import dataclass

STEP_S = 0.02  # ours, between two things that happen on the node


@dataclass(frozen=True, slots=True)
class Pace:
    """`factor`: simulated seconds in one of ours; `minutes`: simulated, how long the storm lasts."""

    factor: float
    minutes: float

    @property
    def steps(self) -> int:
        return max(1, round(self.minutes * 60 / self.step_s))

    @property
    def step_s(self) -> float:
        """Simulated seconds of a step."""
        return STEP_S * self.factor

    async def wait(self, rng: random.Random, shortest_s: float, longest_s: float) -> None:
        """Some simulated time."""
        await asyncio.sleep(rng.uniform(shortest_s, longest_s) / self.factor)
