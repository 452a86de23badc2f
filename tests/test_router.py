"""Routing: decided per container where it can be, waiting only where it must, and as each record by itself would be."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper import conditions as c
from shipper.conditions import All, AnyOf, Condition, Not, parse_condition
from shipper.filters.base import Lookup, Metadata
from shipper.filters.config import FilterConfig
from shipper.filters.drop import DropConfig
from shipper.filters.json import JsonConfig
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.tag import TagConfig, TagRule
from shipper.record import Source
from shipper.router import EMPTY, Choice, Plan, Route, Router, first_fitting, fits
from shipper.template import Template

SOURCE = Source("pods", "/var/log/pods/shop_cart_u/app/0.log", "shop", "cart", "u", "app", 0)
TAG = "kube.shop.cart.app"
TAKES, LEAVES, WAITS, BY_RECORD = Choice.TAKES, Choice.LEAVES, Choice.WAITS, Choice.BY_RECORD
UNKNOWN, ABSENT = Lookup.UNKNOWN, Lookup.ABSENT


def add(tag: str, when: Any = None) -> TagRule:
    return TagRule(add=Template.parse(tag), when=None if when is None else parse_condition(when))


def put(tag: str, when: Any = None) -> TagRule:
    return TagRule(set=Template.parse(tag), when=None if when is None else parse_condition(when))


def tags(*rules: TagRule, match: str = "*") -> TagConfig:
    return TagConfig(rules=rules, match=(match,))


def drop(when: Any, match: str = "*") -> DropConfig:
    return DropConfig(when=parse_condition(when), match=(match,))


def route(name: str, match: str, target: str = "x") -> Route:
    return Route(name, (match,), Template.parse(target))


def record(message: str = "", stream: str = "stdout", **values: Any) -> dict[str, Any]:
    return {"message": message, "stream": stream, "field": values.get}


def plan_of(filters: Sequence[FilterConfig], routes: Sequence[Route], metadata: Metadata | Lookup = EMPTY) -> Plan:
    return Router(filters, routes, node="node-1").plan(SOURCE, TAG, metadata)


ES, ARCHIVE = route("es", "kube.*"), route("archive", "archive.*")
ARCHIVED = {"annotation": "archive", "equals": "true"}
AUDIT = {"field": "category", "equals": "audit"}
KUBERNETES = KubernetesConfig()


@pytest.mark.parametrize(
    ("filters", "metadata", "choices"),
    [
        pytest.param([], EMPTY, [TAKES, LEAVES], id="no filters"),
        pytest.param([], UNKNOWN, [TAKES, LEAVES], id="metadata that nobody needs"),
        pytest.param([tags(add("archive.x", ARCHIVED))], UNKNOWN, [TAKES, WAITS], id="a tag may come"),
        pytest.param([tags(add("archive.x", ARCHIVED))], ABSENT, [TAKES, LEAVES], id="there is no such pod"),
        pytest.param(
            [tags(add("archive.x", ARCHIVED))],
            Metadata(annotations={"archive": "true"}),
            [TAKES, TAKES],
            id="the tag has come",
        ),
        pytest.param([tags(add("other.x", ARCHIVED))], UNKNOWN, [TAKES, LEAVES], id="a tag for nobody may come"),
        pytest.param([tags(add("archive.{label:team}"))], UNKNOWN, [TAKES, WAITS], id="a tag made of a label"),
        pytest.param([tags(put("archive.x", ARCHIVED))], UNKNOWN, [WAITS, WAITS], id="all tags may go"),
        pytest.param([tags(put("archive.x"))], UNKNOWN, [LEAVES, TAKES], id="all tags are replaced"),
        pytest.param([drop({"label": "a", "equals": "b"})], UNKNOWN, [WAITS, WAITS], id="a label may drop all"),
        pytest.param([drop({"namespace": "shop"})], UNKNOWN, [TAKES, TAKES], id="dropped: nobody needs to wait"),
        pytest.param([drop({"namespace": "bank"})], UNKNOWN, [TAKES, LEAVES], id="another namespace is dropped"),
        pytest.param([tags(add("archive.x", AUDIT))], EMPTY, [TAKES, BY_RECORD], id="a tag by field"),
        pytest.param([tags(add("other.x", AUDIT))], EMPTY, [TAKES, LEAVES], id="a tag by field for nobody"),
        pytest.param([tags(put("archive.x", AUDIT))], EMPTY, [BY_RECORD, BY_RECORD], id="tags replaced by field"),
        pytest.param([drop(AUDIT)], EMPTY, [BY_RECORD, LEAVES], id="drop by field"),
        pytest.param([drop(AUDIT, match="archive.*")], EMPTY, [TAKES, LEAVES], id="drop by field, of others"),
        pytest.param([KUBERNETES], UNKNOWN, [TAKES, LEAVES], id="the exclude annotation makes nobody wait"),
        pytest.param(
            [tags(add("archive.a", ARCHIVED), add("archive.b", AUDIT))],
            UNKNOWN,
            [TAKES, WAITS],
            id="annotation and field in one filter: those that take all go on",
        ),
        pytest.param(
            [tags(add("special", ARCHIVED)), drop(AUDIT, match="special")],
            UNKNOWN,
            [WAITS, WAITS],
            id="a filter that may come to apply, and drop",
        ),
        pytest.param(
            [tags(add("special", ARCHIVED)), JsonConfig(match=("special",))],
            UNKNOWN,
            [WAITS, WAITS],
            id="the form of documents may change",
        ),
        pytest.param(
            [tags(add("a", ARCHIVED), put("archive.x", {"tag": "a"}))],
            UNKNOWN,
            [WAITS, WAITS],
            id="a condition on a tag that may come",
        ),
        pytest.param(
            [tags(add("a", {"namespace": "shop"}), add("archive.x", [{"tag": "a"}, AUDIT]))],
            EMPTY,
            [TAKES, BY_RECORD],
            id="a rule needs records since the one before it applied",
        ),
        pytest.param(
            [tags(put("new", {"namespace": "shop"}), add("archive.x", AUDIT), match="kube.*")],
            EMPTY,
            [LEAVES, BY_RECORD],
            id="a filter that was entered is followed to its end",
        ),
    ],
)
def test_choices(filters: list[FilterConfig], metadata: Metadata | Lookup, choices: list[Choice]) -> None:
    plan = plan_of(filters, [ES, ARCHIVE], metadata)
    assert [plan.choices["es"], plan.choices["archive"]] == choices


@pytest.mark.parametrize(
    ("target", "filters", "metadata", "choice"),
    [
        ("logs-{label:app}", [], UNKNOWN, WAITS),
        ("logs-{label:app}", [], ABSENT, TAKES),
        ("logs-{field:app}", [], UNKNOWN, BY_RECORD),
        ("logs-{namespace}-{time:%Y}", [], UNKNOWN, TAKES),
        ("logs-{tag}", [tags(add("kube.special", ARCHIVED))], UNKNOWN, WAITS),
        ("logs-{tag}", [tags(add("kube.special", AUDIT))], EMPTY, BY_RECORD),
        ("logs-{tag}", [tags(add("other", ARCHIVED))], UNKNOWN, TAKES),
    ],
)
def test_target_that_depends_on_more_than_is_known(
    target: str, filters: list[FilterConfig], metadata: Metadata | Lookup, choice: Choice
) -> None:
    assert plan_of(filters, [route("es", "kube.*", target)], metadata).choices == {"es": choice}


def test_excluded_container_is_dropped_under_the_filters_name() -> None:
    plan = plan_of([KUBERNETES], [ES], Metadata(excluded=True))
    assert plan.dropped == ("kubernetes", "excluded")


def test_excluded_container_is_dropped_behind_a_rule_by_field_too() -> None:
    plan = plan_of([tags(add("archive.x", AUDIT)), KUBERNETES], [ES], Metadata(excluded=True))
    assert plan.dropped == ("kubernetes", "excluded")


def test_messages_are_merged_behind_a_rule_by_field_too() -> None:
    plan = plan_of([drop(AUDIT), JsonConfig(keep_message=True)], [ES])
    assert (plan.merge_json, plan.keep_message) == (True, True)


def test_json_filter_of_other_tags_merges_nothing() -> None:
    assert not plan_of([JsonConfig(match=("other.*",))], [ES]).merge_json


@pytest.mark.parametrize(("metadata", "waits"), [(UNKNOWN, True), (EMPTY, False), (ABSENT, False)])
def test_records_wait_for_their_labels_only_while_these_are_unknown(metadata: Metadata | Lookup, waits: bool) -> None:
    assert plan_of([KUBERNETES], [ES], metadata).is_waiting is waits


def test_nobody_waits_for_labels_without_a_kubernetes_filter() -> None:
    assert not plan_of([], [ES], UNKNOWN).is_waiting


def test_set_replaces_all_tags_and_add_keeps_them() -> None:
    assert plan_of([tags(add("a"), add("b"), add("a"))], [ES]).tags == (TAG, "a", "b")
    assert plan_of([tags(add("a"), put("{namespace}.new"), add("c"))], [ES]).tags == ("shop.new", "c")


def test_record_is_dropped_by_the_first_filter_that_says_so() -> None:
    plan = plan_of([drop(AUDIT), DropConfig(name="second", when=parse_condition({"message": "x"}))], [ES])
    assert plan.route(record("x", category="audit"))[0] == ("drop", "dropped")
    assert plan.route(record("x"))[0] == ("second", "dropped")
    assert plan.route(record("y")) == (None, (TAG,))


def test_pattern_star_is_any_text_and_nothing_else_is_special() -> None:
    assert fits(("kube.*.app",), ["kube.a.b.app"])
    assert fits(("*",), ["any\nthing"])
    assert not fits(("kube.*",), ["kubex"])
    assert not fits(("a.c",), ["abc"])


def test_tag_of_an_output_is_the_first_that_it_matches() -> None:
    assert first_fitting(("archive.*",), ("kube.a", "archive.b", "archive.c")) == "archive.b"


@pytest.mark.parametrize(
    ("filters", "possible"),
    [
        ([], ["es"]),
        ([tags(add("archive.x", ARCHIVED))], ["es", "archive"]),
        ([tags(add("archive.x", AUDIT))], ["es", "archive"]),
        ([tags(add("archive.x", [{"tag": "none"}, AUDIT]))], ["es", "archive"]),
        ([tags(add("archive.x", {"namespace": "bank"}))], ["es"]),
        ([tags(add("{annotation:to}"))], ["es", "archive"]),
        ([drop({"namespace": "shop"})], ["es"]),
    ],
)
def test_output_that_can_never_take_a_record_is_known(filters: list[FilterConfig], possible: list[str]) -> None:
    assert Router(filters, [ES, ARCHIVE], node="n").possible_outputs(SOURCE, TAG) == possible


@pytest.mark.parametrize("source", [SOURCE, Source("local", "/logs/a.log")])
def test_only_containers_are_asked_for(source: Source) -> None:
    router = Router([KubernetesConfig(match=("kube.*",))], [ES], node="n")
    assert router.asks_kubernetes(source, TAG) is source.is_container
    assert not router.asks_kubernetes(source, "local.x")


# -- held to a slow way: every filter, in order, for each record ------------------------------------------------------

NAMES = ("a", "b")
VALUES = ("1", "2", None)
TAGS = ("kube.a", "kube.b", "archive.a", "special")
PATTERNS = ("*", "kube.*", "archive.*", "special", "*.a")

tests = st.one_of(
    st.builds(
        c.Test,
        st.sampled_from(("label", "annotation", "field")),
        st.sampled_from(NAMES),
        st.just("equals"),
        st.tuples(st.sampled_from("12")),
    ),
    st.builds(c.Test, st.just("tag"), st.just(""), st.just("equals"), st.tuples(st.sampled_from((TAG, *TAGS)))),
    st.builds(
        c.Test, st.just("namespace"), st.just(""), st.just("equals"), st.tuples(st.sampled_from(("shop", "bank")))
    ),
    st.builds(c.Test, st.just("stream"), st.just(""), st.just("equals"), st.just(("stderr",))),
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds(All, st.tuples(inner, inner)), st.builds(AnyOf, st.tuples(inner, inner)), st.builds(Not, inner)
    ),
    max_leaves=3,
)
templates = st.sampled_from((*TAGS, "archive.{label:a}", "{annotation:b}")).map(Template.parse)
rules = st.tuples(st.none() | conditions, templates, st.booleans()).map(
    lambda drawn: TagRule(when=drawn[0], set=drawn[1]) if drawn[2] else TagRule(when=drawn[0], add=drawn[1])
)
matches = st.sampled_from(PATTERNS).map(lambda pattern: (pattern,))
filters_ = st.lists(
    st.one_of(
        st.builds(TagConfig, rules=st.lists(rules, min_size=1, max_size=3).map(tuple), match=matches),
        st.builds(TagConfig, rules=st.lists(rules, min_size=1, max_size=3).map(tuple), match=matches),
        st.builds(DropConfig, when=conditions, match=matches, name=st.sampled_from(("drop", "drop2"))),
    ),
    max_size=4,
)
values = st.fixed_dictionaries({name: st.sampled_from(VALUES) for name in NAMES}).map(
    lambda found: {name: value for name, value in found.items() if value is not None}
)
metadatas = st.builds(Metadata, labels=values, annotations=values)
records = st.builds(lambda stream, found: record("", stream, **found), st.sampled_from(("stdout", "stderr")), values)
routes_ = [
    route("kube", "kube.*"),
    route("archive", "archive.*", "{tag}"),
    route("special", "special"),
    route("all", "*", "{tag}"),
]


def slowly(
    filters: Sequence[FilterConfig], metadata: Metadata, each: Mapping[str, Any]
) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    """What config.md says: filters in order, each sees records of which any tag fits; rules in order, all of them."""
    now: list[str] = [TAG]

    def matches(patterns: Sequence[str]) -> bool:
        expressions = [re.escape(pattern).replace(r"\*", ".*") for pattern in patterns]
        return any(re.fullmatch(e, tag, re.DOTALL) for e in expressions for tag in now)

    def holds(condition: Condition | None) -> bool:
        match condition:
            case None:
                return True
            case Not(part):
                return not holds(part)
            case All(parts):
                return all(map(holds, parts))
            case AnyOf(parts):
                return any(map(holds, parts))
            case c.Test("label", name):
                return metadata.labels.get(name) in condition.values
            case c.Test("annotation", name):
                return metadata.annotations.get(name) in condition.values
            case c.Test("field", name):
                return each["field"](name) in condition.values
            case c.Test("tag"):
                return condition.values[0] in now
            case c.Test("namespace"):
                return condition.values == ("shop",)
            case c.Test("stream"):
                return each["stream"] in condition.values
        raise AssertionError(condition)

    def text(template: Template) -> str:
        known = {"{label:a}": metadata.labels.get("a"), "{annotation:b}": metadata.annotations.get("b")}
        written = template.text
        for placeholder, value in known.items():
            written = written.replace(placeholder, value or "unknown")
        return written

    for one in filters:
        if not matches(one.match):
            continue
        if isinstance(one, DropConfig):
            if holds(one.when):
                return (one.name, "dropped"), tuple(now)
        elif isinstance(one, TagConfig):
            for rule in one.rules:
                if not holds(rule.when):
                    continue
                if rule.set is not None:
                    now[:] = [text(rule.set)]
                elif rule.add is not None and text(rule.add) not in now:
                    now.append(text(rule.add))
    return None, tuple(now)


def quickly(plan: Plan, each: Mapping[str, Any], output: Route) -> tuple[bool, str]:
    """As the lanes do: (whether the output takes it, the {tag} that its target would have)."""
    choice = plan.choices[output.name]
    dropped, now = plan.route(each) if plan.rest else (None, plan.tags)
    if plan.dropped or dropped or choice is LEAVES:
        return False, ""
    takes = choice is TAKES or fits(output.match, now)
    return takes, first_fitting(output.match, plan.tags if choice is TAKES else now) if takes else ""


@settings(max_examples=400, deadline=None)
@given(filters_, metadatas, st.lists(records, min_size=1, max_size=3))
def test_plan_decides_as_record_by_record(
    filters: list[FilterConfig], metadata: Metadata, each: list[dict[str, Any]]
) -> None:
    plan = plan_of(filters, routes_, metadata)
    assert WAITS not in plan.choices.values()
    for one in each:
        dropped, now = slowly(filters, metadata, one)
        if plan.dropped or plan.rest:
            assert (plan.dropped or plan.route(one)[0]) == dropped
        for output in routes_:
            takes = dropped is None and fits(output.match, now)
            tag = first_fitting(output.match, now) if takes and "tag" in output.target.placeholders else None
            assert quickly(plan, one, output)[0] is takes
            assert tag is None or quickly(plan, one, output)[1] == tag


@settings(max_examples=400, deadline=None)
@given(filters_, metadatas, records)
def test_who_does_not_wait_is_right_whatever_metadata_says_then(
    filters: list[FilterConfig], metadata: Metadata, each: dict[str, Any]
) -> None:
    early = plan_of(filters, routes_, UNKNOWN)
    dropped, now = slowly(filters, metadata, each)
    for output in routes_:
        if early.choices[output.name] is not WAITS:
            takes = dropped is None and fits(output.match, now)
            assert quickly(early, each, output)[0] is takes
            if takes and "tag" in output.target.placeholders:
                assert quickly(early, each, output)[1] == first_fitting(output.match, now)


@settings(max_examples=200, deadline=None)
@given(filters_, metadatas, records)
def test_no_output_without_a_cursor_ever_takes_a_record(
    filters: list[FilterConfig], metadata: Metadata, each: dict[str, Any]
) -> None:
    possible = Router(filters, routes_, node="n").possible_outputs(SOURCE, TAG)
    dropped, now = slowly(filters, metadata, each)
    taken = [output.name for output in routes_ if dropped is None and fits(output.match, now)]
    assert set(taken) <= set(possible)
