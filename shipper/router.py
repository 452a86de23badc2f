"""Tags and match rules: which output takes what, decided as early as it can be.

`Router.plan` decides for a whole container from its identity and metadata. Only from the first rule on that needs
records' fields does a plan keep `rest`, which `Plan.route` runs record by record.

While metadata is unknown, an output whose choice and target cannot depend on it may go on (after the kubernetes
filter's `wait`), the others wait. So a plan follows the filters with three kinds of tags: those that every record has,
those that records decide, and those that metadata decides.
"""

import enum
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any

import msgspec

from shipper.conditions import Answer, Condition
from shipper.filters.base import Lookup, Metadata
from shipper.filters.config import FilterConfig
from shipper.filters.drop import DropConfig
from shipper.filters.json import JsonConfig
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.tag import TagConfig, TagRule
from shipper.record import Source
from shipper.sieve import Bodies, Places, candidates, union
from shipper.template import Template

EMPTY = Metadata()


class Choice(enum.Enum):
    TAKES = "takes"
    LEAVES = "leaves"
    WAITS = "waits for metadata"
    BY_RECORD = "depends on the record"


@cache
def tag_pattern(pattern: str) -> re.Pattern[str]:
    """`*` is any text, also over dots."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def fits(patterns: Sequence[str], tags: Collection[str]) -> bool:
    if "*" in patterns:
        return bool(tags)  # as most rules do
    return any(tag_pattern(p).fullmatch(tag) for tag in tags for p in patterns)


def first_fitting(patterns: Sequence[str], tags: Sequence[str]) -> str:
    """`{tag}` with several tags: the first that the output matches."""
    return next((tag for tag in tags if fits(patterns, (tag,))), tags[0] if tags else "")


class Route(msgspec.Struct, frozen=True):
    """What the router knows of an output."""

    name: str
    match: tuple[str, ...]
    target: Template


class Subject(msgspec.Struct):
    """Answers conditions and templates for one container, and for one record of it when there is one."""

    source: Source
    metadata: Metadata | None
    node: str
    tags: tuple[str, ...]
    record: Mapping[str, Any] | None = None  # {"stream": ..., "message": ..., "fields": dict or None}

    def look(self, subject: str, name: str) -> Any:
        if subject in ("label", "annotation"):
            if self.metadata is None:
                return Answer.NEEDS_METADATA
            return (self.metadata.labels if subject == "label" else self.metadata.annotations).get(name)
        if subject in ("field", "message", "stream"):
            if self.record is None:
                return Answer.NEEDS_RECORD
            return self.record["field"](name) if subject == "field" else self.record[subject]
        if subject == "tag":
            return frozenset(self.tags)
        return self.value(subject, name)

    def value(self, kind: str, name: str) -> str | None:
        """For templates."""
        source = self.source
        if kind in ("label", "annotation"):
            found = (self.metadata or EMPTY).labels if kind == "label" else (self.metadata or EMPTY).annotations
            return found.get(name)
        if kind == "field":
            value = self.record["field"](name) if self.record else None
            return None if value is None or isinstance(value, dict | list) else str(value)
        if kind == "node":
            return self.node
        return source.value(kind)


class Plan(msgspec.Struct):
    """What happens to the records of one container, as far as it is known now."""

    tags: tuple[str, ...]  # before `rest`
    subject: Subject
    choices: Mapping[str, Choice] = msgspec.field(default_factory=dict)
    merge_json: bool = False
    keep_message: bool = False
    dropped: tuple[str, str] | None = None  # filter, reason: all of them
    rest: tuple[FilterConfig, ...] = ()  # what must be asked for each record
    is_waiting: bool = False  # records may wait for labels that only enrich them, for the kubernetes filter's `wait`
    metadata: Metadata | Lookup = Lookup.UNKNOWN
    routes: Mapping[str, Route] = msgspec.field(default_factory=dict)

    def candidates(self, bodies: Bodies) -> Places:
        """Records for which `route` may say anything but the plan's own tags."""
        conditions: list[Condition | None] = []
        for each in self.rest:
            if isinstance(each, DropConfig):
                conditions.append(each.when)
            elif isinstance(each, TagConfig):
                conditions += [rule.when for rule in each.rules]
        return union(candidates(condition, bodies) for condition in conditions)

    def route(self, record: Mapping[str, Any]) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
        """For one record: (filter and reason that dropped it, or None), and its tags."""
        subject = Subject(self.subject.source, self.subject.metadata, self.subject.node, self.tags, record)
        for each in self.rest:
            if not fits(each.match, subject.tags):
                continue
            if isinstance(each, DropConfig):
                if each.when.decide(subject.look) is Answer.YES:
                    return (each.name, "dropped"), subject.tags
            elif isinstance(each, TagConfig):
                for rule in each.rules:
                    if rule.when is None or rule.when.decide(subject.look) is Answer.YES:
                        tag = _new_tag(rule, subject)
                        subject.tags = (tag,) if rule.set is not None else _with(subject.tags, tag)
        return None, subject.tags


def _template(rule: TagRule) -> Template:
    template = rule.add if rule.add is not None else rule.set
    assert template is not None, "the loader lets no rule pass without add or set"
    return template


def _new_tag(rule: TagRule, subject: Subject) -> str:
    return _template(rule).render(subject.value, style="tag")


def _with(tags: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*tags, *more)))


def _both(one: Answer, other: Answer) -> Answer:
    """Whether both hold. What metadata has a say in waits for it, whatever records say."""
    order = (Answer.NO, Answer.NEEDS_METADATA, Answer.NEEDS_RECORD, Answer.YES)
    return min(one, other, key=order.index)


class _Draft(msgspec.Struct):
    """What the filters so far do to a container's records."""

    subject: Subject
    sure: tuple[str, ...]  # tags that every record has
    by_record: tuple[str, ...] = ()  # that some records may have
    by_metadata: tuple[str, ...] = ()  # that metadata, once it is known, may add
    any_by_metadata: bool = False  # it may add a tag of any text
    may_drop: bool = False  # some records
    all_wait: bool = False  # metadata may drop records, take tags away, or change the form of documents

    def fit(self, match: Sequence[str]) -> Answer:
        if fits(match, self.sure):
            return Answer.YES
        if self.may_get(match):
            return Answer.NEEDS_METADATA
        return Answer.NEEDS_RECORD if fits(match, self.by_record) else Answer.NO

    def may_get(self, match: Sequence[str]) -> bool:
        """Whether metadata may add a tag that fits."""
        return self.any_by_metadata or fits(match, self.by_metadata)

    def decide(self, condition: Condition | None) -> Answer:
        return Answer.YES if condition is None else condition.decide(self._look)

    def _look(self, subject: str, name: str) -> Any:
        if subject == "tag" and (self.any_by_metadata or self.by_metadata):
            return Answer.NEEDS_METADATA
        if subject == "tag":
            return Answer.NEEDS_RECORD if self.by_record else frozenset(self.sure)
        return self.subject.look(subject, name)

    def retag(self, rule: TagRule, answer: Answer) -> None:
        is_known = self.subject.metadata is not None or not _template(rule).needs_metadata
        tag = _new_tag(rule, self.subject)
        if answer is Answer.NO:
            return
        if rule.set is not None:
            self._replace(tag, answer if is_known else Answer.NEEDS_METADATA)
        elif not is_known:
            self.any_by_metadata = True
        elif answer is Answer.YES:
            self.sure = _with(self.sure, tag)
        elif answer is Answer.NEEDS_RECORD:
            self.by_record = _with(self.by_record, tag)
        else:
            self.by_metadata = _with(self.by_metadata, tag)

    def _replace(self, tag: str, answer: Answer) -> None:
        if answer is Answer.YES:
            self.sure, self.by_record, self.by_metadata, self.any_by_metadata = (tag,), (), (), False
        elif answer is Answer.NEEDS_RECORD:
            self.sure, self.by_record = (), _with(self.by_record, *self.sure, tag)
        else:
            self.all_wait = True


class Router:
    """The configured filters and outputs, as rules."""

    def __init__(self, filters: Sequence[FilterConfig], routes: Sequence[Route], *, node: str) -> None:
        self.filters = tuple(filters)
        self.routes = {route.name: route for route in routes}
        self.node = node
        self._choices: dict[tuple[Choice, ...], dict[str, Choice]] = {}  # most containers have the same

    def asks_kubernetes(self, source: Source, tag: str) -> bool:
        return source.is_container and any(
            isinstance(f, KubernetesConfig) and fits(f.match, (tag,)) for f in self.filters
        )

    def plan(self, source: Source, tag: str, metadata: Metadata | Lookup) -> Plan:
        """`metadata` is what the kubernetes filter's `lookup` said, or EMPTY where no such filter applies.

        The filters `kubernetes` and `json` apply to all records of a container if they apply to some.
        """
        known = None if metadata is Lookup.UNKNOWN else EMPTY if metadata is Lookup.ABSENT else metadata
        assert known is None or isinstance(known, Metadata)
        draft = _Draft(Subject(source, known, self.node, (tag,)), (tag,))
        plan = Plan((tag,), draft.subject, metadata=metadata, routes=self.routes)
        for i, each in enumerate(self.filters):
            applies = draft.fit(each.match)
            if applies is Answer.NO:
                continue
            if isinstance(each, TagConfig):
                self._tag(i, each, applies, plan, draft)
            elif isinstance(each, DropConfig):
                self._drop(i, each, _both(applies, draft.decide(each.when)), plan, draft)
            elif applies is Answer.NEEDS_METADATA:
                draft.all_wait = True
            elif isinstance(each, JsonConfig):
                plan.merge_json, plan.keep_message = True, each.keep_message
            elif isinstance(each, KubernetesConfig):
                plan.is_waiting = plan.is_waiting or known is None
                plan.dropped = (each.name, "excluded") if known is not None and known.excluded else None
            if plan.dropped or draft.all_wait:
                break
        if not plan.rest:
            plan.tags = draft.sure
        choices = {name: self._choice(route, plan, draft) for name, route in self.routes.items()}
        plan.choices = self._choices.setdefault(tuple(choices.values()), choices)
        return plan

    def possible_outputs(self, source: Source, tag: str) -> list[str]:
        """Outputs that a record of this source may reach, whatever metadata and records say."""
        subject = Subject(source, None, self.node, (tag,))
        tags, is_open = [tag], False
        for rule in (rule for each in self.filters if isinstance(each, TagConfig) for rule in each.rules):
            if rule.when is None or rule.when.decide(partial(_before_tags, subject)) is not Answer.NO:
                is_open = is_open or _template(rule).needs_metadata
                tags.append(_new_tag(rule, subject))
        return [name for name, route in self.routes.items() if is_open or fits(route.match, tags)]

    def _tag(self, i: int, each: TagConfig, applies: Answer, plan: Plan, draft: _Draft) -> None:
        for j, rule in enumerate(each.rules):
            answer = _both(applies, draft.decide(rule.when))
            if answer is Answer.NEEDS_RECORD and not plan.rest:
                # Its first rules were followed already; that it applies was decided before they changed the tags.
                left = msgspec.structs.replace(each, match=("*",), rules=each.rules[j:])
                plan.tags, plan.rest = draft.sure, (left, *self.filters[i + 1 :])
            draft.retag(rule, answer)

    def _drop(self, i: int, each: DropConfig, answer: Answer, plan: Plan, draft: _Draft) -> None:
        if answer is Answer.NEEDS_METADATA:
            draft.all_wait = True
        elif answer is Answer.YES and not plan.rest:
            plan.dropped = (each.name, "dropped")
        elif answer is not Answer.NO:
            draft.may_drop = True
            if not plan.rest:
                plan.tags, plan.rest = draft.sure, self.filters[i:]

    def _choice(self, route: Route, plan: Plan, draft: _Draft) -> Choice:
        if plan.dropped:
            return Choice.TAKES
        if draft.all_wait:
            return Choice.WAITS
        answer = draft.fit(route.match)
        if answer is Answer.NO:
            return Choice.LEAVES
        names_tag = "tag" in route.target.placeholders  # the first one that fits: any other may come before it
        needs_metadata = route.target.needs_metadata and draft.subject.metadata is None
        if answer is Answer.NEEDS_METADATA or needs_metadata or (names_tag and draft.may_get(route.match)):
            return Choice.WAITS
        needs_record = route.target.needs_record or draft.may_drop or (names_tag and bool(plan.rest))
        return Choice.BY_RECORD if answer is Answer.NEEDS_RECORD or needs_record else Choice.TAKES


def _before_tags(subject: Subject, kind: str, name: str) -> Any:
    """What is known of a container while its tags are not."""
    return Answer.NEEDS_RECORD if kind == "tag" else subject.look(kind, name)
