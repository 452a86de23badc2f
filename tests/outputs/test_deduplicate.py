"""Of equal keys the last one wins; nothing else of a document changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.outputs.deduplicate import without_equal_keys


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'{"a":1,"b":2,"a":3}', b'{"a":3,"b":2}'),
        (b'{"a":1,"\\u0061":2}', b'{"a":2}'),
        (b'{"a":{"b":1,"b":2}}', b'{"a":{"b":2}}'),
        (b'[{"a":1,"a":2}]', b'[{"a":2}]'),
        (b'{"a":[1,{"b":[{"c":1,"c":{}}]}]}', b'{"a":[1,{"b":[{"c":{}}]}]}'),
        (b'{"a":{"x":1},"a":{"y":2}}', b'{"a":{"y":2}}'),
        (b'{"n":1.10,"m":12345678901234567890123,"e":1E400}', b'{"n":1.10,"m":12345678901234567890123,"e":1E400}'),
        (b'{"a":"\\u00e4 \\/","b":null}', b'{"a":"\\u00e4 \\/","b":null}'),
    ],
)
def test_last_of_equal_keys_wins(written: bytes, expected: bytes) -> None:
    assert without_equal_keys(written + b"\n", 1) == expected + b"\n"


def test_action_line_stays_as_it_is() -> None:
    assert without_equal_keys(b'{"create":{"a":1,"a":2}}\n{"a":1,"a":2}\n', 2) == (
        b'{"create":{"a":1,"a":2}}\n{"a":2}\n'
    )


@pytest.mark.parametrize(
    "odd", [b'{"a":1', b"", b"no json", b'{"a":' * 5_000, b'{"\xff":1}', b'{"\\ud800":1,"\\ud800":2}']
)
def test_what_cannot_be_read_stays_as_it_is(odd: bytes) -> None:
    assert without_equal_keys(odd + b"\n", 1) == odd + b"\n"


class Pairs(list[tuple[str, Any]]):
    """An object as it is written, equal keys and all."""


scalars = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(st.tuples(st.sampled_from("abä"), inner), max_size=4).map(Pairs)
    ),
    max_leaves=12,
)


def written(value: Any) -> str:
    if isinstance(value, Pairs):
        return "{" + " ,".join(f"{json.dumps(key)} : {written(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


def no_pair_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


@given(st.lists(st.tuples(st.sampled_from("abä"), values), max_size=6).map(Pairs))
def test_any_object_means_the_same_and_has_no_key_twice(value: Pairs) -> None:
    text = written(value)
    merged = without_equal_keys(text.encode() + b"\n", 1)
    assert merged.count(b"\n") == 1
    assert json.loads(merged, object_pairs_hook=no_pair_twice) == json.loads(text)
