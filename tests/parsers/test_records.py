"""Choosing among records: by two ways, which agree."""

from hypothesis import given
from hypothesis import strategies as st

from shipper.parsers import Records


def records_of(count: int, marked: set[int]) -> Records:
    numbers = range(count)
    words = [b"%d" % i for i in numbers]
    marks = {i: b"mark %d" % i for i in marked if i < count}
    return Records(numbers, numbers, numbers, words, words, words, marks, consumed=count)


@given(chosen=st.lists(st.booleans(), max_size=60), marked=st.sets(st.integers(0, 59)))
def test_those_that_are_left_out_are_as_good_a_choice_as_those_that_stay(chosen: list[bool], marked: set[int]) -> None:
    records = records_of(len(chosen), marked)
    left_out = [i for i, is_chosen in enumerate(chosen) if not is_chosen]
    assert records.without(left_out) == records.select(chosen)
