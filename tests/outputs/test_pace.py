"""The pace follows what the destination can bear, and stays between its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.outputs.pace import PROBE_AFTER_S, SETTLE_S, Outcome, Pace

MIB = 2**20
STEPS_TO_THE_TOP = 20


def pace(*, most_requests: int = 8, most_bytes: int = 4 * MIB) -> Pace:
    return Pace(least_bytes=MIB // 4, most_bytes=most_bytes, most_requests=most_requests, slow_s=5.0)


def test_it_begins_at_full_speed_and_stays_there_while_all_is_taken() -> None:
    one = pace()
    for second in range(20):
        one.answered("taken", seconds=0.2, size=4 * MIB, now=float(second))
    assert (one.concurrency, one.batch_bytes) == (8, 4 * MIB)


@pytest.mark.parametrize("outcome", ["busy", "silent"])
def test_a_busy_destination_gets_fewer_requests_and_then_smaller_ones(outcome: Outcome) -> None:
    one, seen = pace(), []
    for step in range(8):
        one.answered(outcome, seconds=0.1, size=4 * MIB, now=step * SETTLE_S)
        seen.append((one.concurrency, one.batch_bytes / MIB))
    assert seen == [(4, 4), (2, 4), (1, 4), (1, 2), (1, 1), (1, 0.5), (1, 0.25), (1, 0.25)]


def test_refusals_of_requests_that_were_in_flight_together_are_one_step() -> None:
    one = pace()
    for _ in range(8):
        one.answered("busy", seconds=0.1, size=4 * MIB, now=100.0)
    assert one.concurrency == 4


def test_a_slow_destination_gets_fewer_requests_and_no_smaller_ones() -> None:
    one = pace()
    for step in range(10):
        one.answered("taken", seconds=9.0, size=4 * MIB, now=step * 9.0)
    assert (one.concurrency, one.batch_bytes) == (1, 4 * MIB)


def test_when_it_has_recovered_the_pace_does_too() -> None:
    one = pace()
    for step in range(6):
        one.answered("busy", seconds=0.1, size=4 * MIB, now=step * SETTLE_S)
    answers = 0
    while (one.concurrency, one.batch_bytes) != (8, 4 * MIB):
        one.answered("taken", seconds=0.1, size=one.batch_bytes, now=10.0)
        answers += 1
    assert answers < 60


def test_requests_stay_below_a_size_that_was_refused_and_try_it_again_later() -> None:
    """A server that takes 3 MiB: as http.max_content_length."""
    one, now, refused = pace(), 0.0, []
    while now < PROBE_AFTER_S - 60:
        now += 1.0
        if one.batch_bytes > 3 * MIB:
            refused.append(now)
            one.answered("too_large", seconds=0.1, size=one.batch_bytes, now=now)
        else:
            one.answered("taken", seconds=0.1, size=one.batch_bytes, now=now)
    assert len(refused) <= 4
    assert 2 * MIB < one.batch_bytes <= 3 * MIB
    for _ in range(STEPS_TO_THE_TOP):
        one.answered("taken", seconds=0.1, size=one.batch_bytes, now=now + 2 * PROBE_AFTER_S)
    assert one.batch_bytes == 4 * MIB


def test_a_small_request_says_nothing_of_larger_ones() -> None:
    one = pace()
    one.answered("too_large", seconds=0.1, size=4 * MIB, now=0.0)
    for _ in range(100):
        one.answered("taken", seconds=0.1, size=1000, now=1.0)
    assert one.batch_bytes == 2 * MIB


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["taken", "busy", "silent", "too_large"]),
            st.floats(0, 60),
            st.integers(0, 8 * MIB),
            st.floats(0, 100),
        )
    ),
    st.integers(1, 9),
    st.integers(1, 8 * MIB),
)
def test_it_stays_between_its_bounds(
    steps: list[tuple[Outcome, float, int, float]], most_requests: int, most_bytes: int
) -> None:
    one, now = pace(most_requests=most_requests, most_bytes=most_bytes), 0.0
    for outcome, seconds, size, passed in steps:
        now += passed
        one.answered(outcome, seconds=seconds, size=size, now=now)
        assert 1 <= one.concurrency <= most_requests
        assert min(MIB // 4, most_bytes) <= one.batch_bytes <= most_bytes
