import pytest

from shipper.outputs.elasticsearch.retry_after import LIMIT_S, parse_retry_after


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "9" * 400}, LIMIT_S),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 0.0),
    ],
)
def test_seconds_and_dates_are_understood(headers: dict[str, str], expected: float | None) -> None:
    assert parse_retry_after(headers) == expected


def test_a_date_is_compared_with_our_clock_when_the_server_does_not_tell_its_own() -> None:
    assert parse_retry_after({"Retry-After": "Sat, 21 Nov 2093 10:00:00 GMT"}) == LIMIT_S
