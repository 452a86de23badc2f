"""Waits that grow, end with the first success, and never pass the limit."""

import asyncio

from shipper.outputs.s3.pace import Pace


def test_delays_double_up_to_the_limit_with_jitter() -> None:
    pace = Pace(1, 10, monotonic=lambda: 0.0, jitter=lambda: 1.0)
    assert [pace.fail() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    least = Pace(1, 10, monotonic=lambda: 0.0, jitter=lambda: 0.0)
    assert [least.fail() for _ in range(3)] == [0.5, 1, 2]


def test_many_failures_do_not_overflow() -> None:
    pace = Pace(0.5, 30, monotonic=lambda: 0.0, jitter=lambda: 1.0)
    assert {pace.fail() for _ in range(5000)} >= {30}


def test_the_servers_own_wish_is_honoured() -> None:
    pace = Pace(1, 10, monotonic=lambda: 0.0, jitter=lambda: 1.0)
    assert pace.fail(wish_s=25) == 25
    assert pace.delay_s() == 25


def test_a_success_ends_all_waits() -> None:
    pace = Pace(1, 10, monotonic=lambda: 0.0, jitter=lambda: 1.0)
    pace.fail()
    pace.fail()
    pace.succeed()
    assert pace.delay_s() == 0
    assert pace.fail() == 1


async def test_who_waits_goes_on_at_once_when_another_succeeds() -> None:
    pace = Pace(3600, 3600)
    pace.fail()

    async def succeed() -> None:
        await asyncio.sleep(0)
        pace.succeed()

    async with asyncio.timeout(100):
        await asyncio.gather(pace.wait(), succeed())
