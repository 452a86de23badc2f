"""Conditions: what they decide, how early, and how a wrong one is told."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.conditions import Answer, Condition, ConditionError, Subject, field_of, parse_condition

YES, NO, NEEDS_METADATA, NEEDS_RECORD = Answer


def looking_at(values: Mapping[tuple[str, str], Any]) -> Subject:
    return lambda subject, name: values.get((subject, name))


def decide(written: Any, **values: Any) -> Answer:
    """Plain subjects by keyword; labels, annotations and fields as mappings."""
    named = {
        (kind, name): value for kind, part in values.items() if isinstance(part, dict) for name, value in part.items()
    }
    return parse_condition(written).decide(looking_at({(kind, ""): value for kind, value in values.items()} | named))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"namespace": "shop"}, YES),
        ({"namespace": "bank"}, NO),
        ({"namespace": ["bank", "shop"]}, YES),
        ({"pod": None, "matches": "^cart-"}, YES),
        ({"pod": None, "matches": "^art-"}, NO),
        ({"label": "app", "equals": "cart"}, YES),
        ({"label": "app", "in": ["a", "cart"]}, YES),
        ({"label": "app", "exists": True}, YES),
        ({"label": "app", "exists": False}, NO),
        ({"label": "tier", "exists": False}, YES),
        ({"label": "tier", "equals": "x"}, NO),
        ({"annotation": "shipper.io/archive", "equals": True}, YES),
        ({"field": "http.status", "equals": 500}, YES),
        ({"tag": "kube.shop"}, YES),
        ({"tag": None, "matches": r"^archive\."}, YES),
        ({"tag": "other"}, NO),
        ([{"namespace": "shop"}, {"pod": "cart-1"}], YES),
        ([{"namespace": "shop"}, {"pod": "other"}], NO),
        ({"any": [{"namespace": "bank"}, {"pod": "cart-1"}]}, YES),
        ({"all": [{"namespace": "shop"}, {"not": {"pod": "cart-1"}}]}, NO),
        ({"not": [{"namespace": "shop"}, {"pod": "other"}]}, YES),
    ],
)
def test_condition_decides(written: Any, expected: Answer) -> None:
    answer = decide(
        written,
        namespace="shop",
        pod="cart-1",
        label={"app": "cart"},
        annotation={"shipper.io/archive": "true"},
        field={"http.status": 500},
        tag=frozenset({"kube.shop", "archive.shop"}),
    )
    assert answer is expected


@pytest.mark.parametrize(("value", "equals"), [(True, "true"), (False, "false"), (30, "30"), (1.5, "1.5"), ("x", "x")])
def test_values_compare_as_a_person_writes_them(value: Any, equals: str) -> None:
    assert decide({"field": "level", "equals": equals}, field={"level": value}) is YES
    assert decide({"field": "level", "equals": value}, field={"level": equals}) is YES


def leaves(condition: Any) -> list[str]:
    if isinstance(condition, list):
        return [name for part in condition for name in leaves(part)]
    if "field" in condition:
        return [condition["field"]]
    return leaves(next(iter(condition.values())))


def holds(condition: Any, values: Mapping[str, Any]) -> bool:
    """Two-valued and by the words: what `decide` must never contradict."""
    if isinstance(condition, list):
        return all(holds(part, values) for part in condition)
    if "field" in condition:
        return bool(values[condition["field"]])
    ((word, inner),) = condition.items()
    if word == "not":
        return not holds(inner, values)
    return any(holds(part, values) for part in inner) if word == "any" else holds(inner, values)


@st.composite
def trees(draw: st.DrawFn) -> Any:
    """A condition of up to six tests, each of a field of its own."""
    names = (f"f{i}" for i in itertools.count())
    shape = st.recursive(
        st.just(None),
        lambda inner: st.tuples(
            st.sampled_from(["any", "all", "list", "not"]), st.lists(inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    )

    def build(drawn: Any) -> Any:
        if drawn is None:
            return {"field": next(names), "equals": "true"}
        word, parts = drawn
        built = [build(part) for part in parts]
        return {"list": built, "not": {"not": built}}.get(word, {word: built})

    return build(draw(shape))


@given(trees(), st.data())
def test_decision_agrees_with_every_way_that_the_unknown_may_turn_out(written: Any, data: st.DataObject) -> None:
    names = leaves(written)
    known = {name: data.draw(st.sampled_from([True, False, NEEDS_METADATA, NEEDS_RECORD])) for name in names}
    unknown = [name for name in names if isinstance(known[name], Answer)]

    answer = parse_condition(written).decide(looking_at({("field", name): value for name, value in known.items()}))

    outcomes = {
        holds(written, known | dict(zip(unknown, turned_out, strict=True)))
        for turned_out in itertools.product([True, False], repeat=len(unknown))
    }
    if len(outcomes) == 1:
        assert answer is (YES if outcomes == {True} else NO)
    else:
        assert answer in {known[name] for name in unknown}


@given(trees(), st.data())
def test_metadata_is_asked_for_before_the_record(written: Any, data: st.DataObject) -> None:
    """So that a chunk takes the record lane only when metadata alone does not decide."""
    names = leaves(written)
    known = {name: data.draw(st.sampled_from([True, False, NEEDS_METADATA, NEEDS_RECORD])) for name in names}
    condition = parse_condition(written)
    if condition.decide(looking_at({("field", name): value for name, value in known.items()})) is not NEEDS_RECORD:
        return
    for turned_out in (True, False):
        later = {("field", n): turned_out if value is NEEDS_METADATA else value for n, value in known.items()}
        assert condition.decide(looking_at(later)) in (YES, NO, NEEDS_RECORD)


@pytest.mark.parametrize(
    ("written", "path", "sentence"),
    [
        ("shop", (), "a condition is a mapping such as {namespace: kube-system}, or a list of them"),
        ({}, (), "a condition is a mapping such as {namespace: kube-system}, or a list of them"),
        ([], (), "a condition is a mapping such as {namespace: kube-system}, or a list of them"),
        ({"any": []}, ("any",), "takes a list of conditions"),
        ({"any": {"namespace": "a"}}, ("any",), "takes a list of conditions"),
        ({"not": []}, ("not",), "a condition is a mapping"),
        ({"any": [{"namespace": "a"}], "pod": "b"}, (), "any, all and not stand alone"),
        ({"namspace": "a"}, ("namspace",), "no such subject or test; subjects are label, annotation, field, namespace"),
        ({"namespace": "a", "pod": "b"}, (), "a condition has one subject; write several as a list"),
        ({"equals": "a"}, (), "a condition has one subject"),
        ({"label": "app"}, (), "says nothing about the label; add one of equals, in, matches, exists"),
        ({"label": None, "equals": "a"}, ("label",), "takes the label's name"),
        ({"label": "app", "equals": "a", "exists": True}, (), "takes one test of equals, in, matches, exists"),
        ({"namespace": "a", "matches": "b"}, (), "namespace has a value and a test beside it; keep one of them"),
        ({"namespace": None}, (), "takes one test of equals, in, matches, exists"),
        ({"namespace": []}, ("in",), "takes a list of values"),
        ({"namespace": None, "in": "a"}, ("in",), "takes a list of values"),
        ({"namespace": None, "in": ["a", None]}, ("in",), "takes a list of values"),
        ({"namespace": {"equals": "a"}}, ("equals",), "takes one value; use in: [...] for several"),
        ({"label": "app", "exists": "yes"}, ("exists",), "takes true or false"),
        ({"label": "app", "matches": "("}, ("matches",), "is no regular expression: missing )"),
        ({"label": "app", "matches": 5}, ("matches",), "is no regular expression"),
        ({"label": "app", "matches": "a{99999999999}"}, ("matches",), "is no regular expression"),
        ([{"namespace": "a"}, {"any": [{"pod": "a"}, {"pd": "b"}]}], (1, "any", 1, "pd"), "no such subject or test"),
    ],
)
def test_wrong_condition_is_a_sentence_and_a_path(written: Any, path: tuple[str | int, ...], sentence: str) -> None:
    with pytest.raises(ConditionError, match=re.escape(sentence)) as caught:
        parse_condition(written)
    assert caught.value.path == path


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["any", "all", "not", "label", "field", "namespace", "message", "equals", "in", "matches", "exists"]
            )
            | st.text(max_size=3)
            | st.integers(),
            inner,
            max_size=3,
        )
    ),
)


@given(YAML)
def test_anything_is_a_condition_or_a_condition_error(written: Any) -> None:
    condition: Condition | None = None
    try:
        condition = parse_condition(written)
    except ConditionError:
        return
    assert condition.decide(looking_at({})) in (YES, NO)


@pytest.mark.parametrize(
    ("document", "name", "value"),
    [
        ({"a": {"b": 1}}, "a.b", 1),
        ({"a.b": 1}, "a.b", 1),
        ({"a": {"b.c": 1}}, "a.b.c", 1),
        ({"a": 1}, "a.b", None),
        ({"a": {"b": 1}}, "a.c", None),
        ({}, "a", None),
        ([1], "0", None),
    ],
)
def test_field_is_found_by_its_path(document: Any, name: str, value: Any) -> None:
    assert field_of(document, name) == value
