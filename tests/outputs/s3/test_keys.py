"""Keys sort by time, are nobody else's, and fit."""

from hypothesis import given
from hypothesis import strategies as st

from shipper.outputs.s3.keys import MAX_KEY_BYTES, fill_key, new_id


def test_ids_sort_by_time_and_differ() -> None:
    times = [1795255200.125 + step for step in (0, 0.0001, 0.9, 60, 86_400, 4e7)]
    ids = [new_id(time) for time in times]
    assert ids == sorted(ids)
    assert ids[0].startswith("20261121T100000125000Z-")
    assert len({new_id(times[0]) for _ in range(1000)}) == 1000


def test_the_id_stands_where_the_template_has_it() -> None:
    assert fill_key("logs/shop/n1-{id}.ndjson.gz", "ID") == "logs/shop/n1-ID.ndjson.gz"


def test_a_long_key_keeps_its_id_and_its_ending() -> None:
    key = fill_key("logs/" + "ü" * 2000 + "/{id}.ndjson.gz", "ID")
    assert len(key.encode()) in (MAX_KEY_BYTES, MAX_KEY_BYTES - 1)
    assert key.startswith("logs/ü")
    assert key.endswith("ID.ndjson.gz")


@given(st.text(), st.text())
def test_any_key_is_valid(before: str, after: str) -> None:
    assert 1 <= len(fill_key(f"{before}{{id}}{after}", "ID").encode()) <= MAX_KEY_BYTES
