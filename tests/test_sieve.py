"""What the sieve leaves out surely does not fulfil a condition, however a record is written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.conditions import Answer, field_of, parse_condition
from shipper.sieve import Bodies, candidates

NAMES = ("level", "a.level", "a", "x")
VALUES = ("error", "warn", 500, 5, True, False, "true", "a b", 0, -1, 1.5, "nan", None, "é", "", {"level": "error"})
FIELDS = st.sampled_from(NAMES)
CONDITIONS = st.recursive(
    st.builds(lambda name, value: {"field": name, "equals": value}, FIELDS, st.sampled_from(VALUES[:-6]))
    | st.builds(lambda name: {"field": name, "in": ["error", 500, "1e3"]}, FIELDS)
    | st.builds(lambda name: {"field": name, "exists": True}, FIELDS)
    | st.just({"stream": "stdout"})
    | st.just({"message": None, "matches": "err"}),
    lambda inner: (
        st.builds(lambda kind, parts: {kind: parts}, st.sampled_from(("any", "all")), st.lists(inner, min_size=1))
        | st.builds(lambda part: {"not": part}, inner)
    ),
    max_leaves=4,
)
OBJECTS = st.recursive(
    st.dictionaries(st.sampled_from(("level", "a", "x", "a.level", "other")), st.sampled_from(VALUES), max_size=4),
    lambda inner: st.dictionaries(st.sampled_from(("a", "x")), inner, max_size=2),
    max_leaves=4,
)
SEPARATORS = st.sampled_from(((",", ":"), (", ", ": "), (" ,\t", " \r:\t ")))


def escaped(text: str) -> str:
    """Every character of its strings that may be is written with an escape."""
    return text.replace("e", "\\u0065").replace("r", "\\u0072")


BODIES = st.lists(
    st.builds(
        lambda value, separators, is_escaped: (escaped if is_escaped else str)(
            json.dumps(value, separators=separators, ensure_ascii=False)
        ).encode(),
        OBJECTS,
        SEPARATORS,
        st.booleans(),
    )
    | st.sampled_from((b"", b"level: error", b'"level"', b': "error"', b'{"level":"error"', b"{}\n{}")),
    max_size=6,
)


def decides(written: Any, body: bytes) -> Answer:
    def look(subject: str, name: str) -> Any:
        if subject == "field":
            try:
                return field_of(json.loads(body), name)
            except ValueError:
                return None
        return "stdout" if subject == "stream" else body.decode("utf-8", "replace")

    return parse_condition(written).decide(look)


@given(CONDITIONS, BODIES)
def test_who_is_no_candidate_does_not_fulfil_it(written: Any, bodies: list[bytes]) -> None:
    found = candidates(parse_condition(written), Bodies(bodies))
    for i, body in enumerate(bodies):
        assert found is None or i in found or decides(written, body) is not Answer.YES


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"field": "level", "equals": "error"}, {0}),
        ({"field": "level", "in": ["error", "warn"]}, {0, 1}),
        ({"field": "res.status", "equals": 500}, {2, 3}),
        ([{"field": "level", "equals": "error"}, {"stream": "stdout"}], {0}),
        ({"any": [{"field": "level", "equals": "error"}, {"field": "res.status", "equals": 500}]}, {0, 2, 3}),
        ({"field": "other", "equals": "x"}, set()),
        ({"any": [{"field": "level", "equals": "error"}, {"stream": "stdout"}]}, None),
        ({"not": {"field": "level", "equals": "error"}}, None),
        ({"field": "level", "exists": False}, None),
        ({"field": "level", "equals": 1.5}, None),
        ({"field": "level", "equals": 0}, None),
        ({"field": "le vel", "equals": "x"}, None),
    ],
)
def test_few_are_candidates_where_bytes_tell(written: Any, expected: set[int] | None) -> None:
    bodies = [
        b'{"level":"error"}',
        b'{ "level" : "warn" }',
        b'{"res":{"status":500}}',
        b'{"res.status":"500"}',
        b"text",
    ]
    assert candidates(parse_condition(written), Bodies(bodies)) == expected


def test_a_record_with_an_escape_is_always_a_candidate() -> None:
    bodies = Bodies([b'{"x":"\\u00e9"}', b'{"x":"\\n"}', rb'{"l\u0065vel":"error"}'])
    assert candidates(parse_condition({"field": "level", "equals": "error"}), bodies) == {0, 2}
