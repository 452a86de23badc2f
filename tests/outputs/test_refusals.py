"""A reason seen often is a line with a count; no reason is hidden by another."""

import asyncio
import logging
from typing import Any

import pytest

from shipper.outputs.refusals import MOST_REASONS, WINDOW_S, Refusals
from tests.fakes import clock


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    found: list[dict[str, Any]] = [record.fields for record in caplog.records if hasattr(record, "fields")]
    return [(each["reason"], each["records"], each["detail"]) for each in found]


def test_the_first_is_told_at_once_and_the_others_by_their_number(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        refusals = Refusals("es")
        for number in range(1000):
            refusals.note("mapping", 2, f"field {number}")
        assert told(caplog) == [("mapping", 2, "field 0")]
        await asyncio.sleep(WINDOW_S + 1)
        assert told(caplog)[1:] == [("mapping", 1998, "field 999")]
        await asyncio.sleep(3 * WINDOW_S)

    clock.run(scenario())
    assert len(told(caplog)) == 2
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_after_a_quiet_minute_a_reason_is_told_at_once_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        refusals = Refusals("es")
        refusals.note("mapping", 1, "a")
        await asyncio.sleep(WINDOW_S + 1)
        refusals.note("mapping", 1, "b")

    clock.run(scenario())
    assert told(caplog) == [("mapping", 1, "a"), ("mapping", 1, "b")]


def test_reasons_do_not_hide_each_other_and_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        refusals = Refusals("es")
        for number in range(MOST_REASONS + 10):
            refusals.note(f"reason-{number}", 1, "d")

    clock.run(scenario())
    reasons = [reason for reason, _, _ in told(caplog)]
    assert reasons == [*(f"reason-{number}" for number in range(MOST_REASONS)), "others"]


def test_what_is_held_back_is_told_on_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        refusals = Refusals("es")
        refusals.note("mapping", 1, "a")
        refusals.note("mapping", 3, "b")
        refusals.flush()
        refusals.flush()

    clock.run(scenario())
    assert told(caplog) == [("mapping", 1, "a"), ("mapping", 3, "b")]
