"""Conditions (`when`): a subject and a test, decided as early as they can be.

Most need only a container's identity or metadata, and are decided once per chunk; `field` and `message` need the
record. So `decide` has four answers, and only NEEDS_RECORD makes a chunk take the record lane.
"""

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

NAMED_SUBJECTS = ("label", "annotation", "field")
PLAIN_SUBJECTS = ("namespace", "pod", "container", "stream", "tag", "path", "message")
TESTS = ("equals", "in", "matches", "exists")


class Answer(enum.Enum):
    YES = "yes"
    NO = "no"
    NEEDS_METADATA = "needs metadata"
    NEEDS_RECORD = "needs record"


Subject = Callable[[str, str], Any]  # ("label", "app") -> value, None where it is missing, or an Answer


class ConditionError(ValueError):
    """`path` leads into the condition: ("any", 0, "matches")."""

    def __init__(self, path: tuple[str | int, ...], sentence: str) -> None:
        super().__init__(sentence)
        self.path = path


def _text(value: Any) -> str:
    """As a person would compare it: YAML's and JSON's true is "true", 30 is "30"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


class Test(msgspec.Struct, frozen=True):
    subject: str
    name: str  # of the label, annotation or field; "" for plain subjects
    test: str
    values: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    exists: bool = True

    def decide(self, look: Subject) -> Answer:
        value = look(self.subject, self.name)
        if isinstance(value, Answer):
            return value
        return Answer.YES if self.holds(value) else Answer.NO

    def holds(self, value: Any) -> bool:
        if self.test == "exists":
            return (value is not None) is self.exists
        if value is None:
            return False
        if isinstance(value, frozenset):  # tags: any of them
            return any(self.holds(v) for v in value)
        if self.pattern is not None:
            return self.pattern.search(_text(value)) is not None
        return _text(value) in self.values


_OPEN = (Answer.NEEDS_METADATA, Answer.NEEDS_RECORD)


def _first_of(order: tuple[Answer, ...], answers: list[Answer]) -> Answer:
    return min(answers, key=order.index)


class All(msgspec.Struct, frozen=True):
    parts: tuple["Condition", ...]

    def decide(self, look: Subject) -> Answer:
        return _first_of((Answer.NO, *_OPEN, Answer.YES), [part.decide(look) for part in self.parts])


class AnyOf(msgspec.Struct, frozen=True):
    parts: tuple["Condition", ...]

    def decide(self, look: Subject) -> Answer:
        return _first_of((Answer.YES, *_OPEN, Answer.NO), [part.decide(look) for part in self.parts])


class Not(msgspec.Struct, frozen=True):
    part: "Condition"

    def decide(self, look: Subject) -> Answer:
        answer = self.part.decide(look)
        return {Answer.YES: Answer.NO, Answer.NO: Answer.YES}.get(answer, answer)


Condition = Test | All | AnyOf | Not


def parse_condition(written: Any, path: tuple[str | int, ...] = ()) -> Condition:
    """From YAML's plain values. Raises ConditionError."""
    if isinstance(written, list) and written:
        return All(tuple(parse_condition(part, (*path, i)) for i, part in enumerate(written)))
    if not isinstance(written, Mapping) or not written:
        raise ConditionError(path, "a condition is a mapping such as {namespace: kube-system}, or a list of them")
    if "any" in written or "all" in written or "not" in written:
        if len(written) > 1:
            raise ConditionError(path, "any, all and not stand alone; put the rest into a list beside them")
        key, inner = next(iter(written.items()))
        if key == "not":
            return Not(parse_condition(inner, (*path, key)))
        if not isinstance(inner, list) or not inner:
            raise ConditionError((*path, key), "takes a list of conditions")
        parts = tuple(parse_condition(part, (*path, key, i)) for i, part in enumerate(inner))
        return AnyOf(parts) if key == "any" else All(parts)
    return _parse_test(dict(written), path)


def _parse_test(written: dict[str, Any], path: tuple[str | int, ...]) -> Test:
    subjects = [k for k in written if k in NAMED_SUBJECTS + PLAIN_SUBJECTS]
    unknown = [k for k in written if k not in (*NAMED_SUBJECTS, *PLAIN_SUBJECTS, *TESTS)]
    if unknown:
        choice = ", ".join((*NAMED_SUBJECTS, *PLAIN_SUBJECTS)) + "; tests are " + ", ".join(TESTS)
        raise ConditionError((*path, unknown[0]), f"no such subject or test; subjects are {choice}")
    if len(subjects) != 1:
        raise ConditionError(path, "a condition has one subject; write several as a list, which means all of them")
    subject = subjects[0]
    tests = {k: v for k, v in written.items() if k in TESTS}
    name = ""
    if subject in NAMED_SUBJECTS:
        name = written[subject]
        if not isinstance(name, str) or not name:
            raise ConditionError((*path, subject), f"takes the {subject}'s name")
        if not tests:
            raise ConditionError(path, f"says nothing about the {subject}; add one of {', '.join(TESTS)}")
    elif written[subject] is not None:
        if tests:
            raise ConditionError(path, f"{subject} has a value and a test beside it; keep one of them")
        value = written[subject]
        tests = {"in": value} if isinstance(value, list) else {"equals": value}
    if len(tests) != 1:
        raise ConditionError(path, f"takes one test of {', '.join(TESTS)}")
    test, argument = next(iter(tests.items()))
    return _make_test(subject, name, test, argument, path)


def _make_test(subject: str, name: str, test: str, argument: Any, path: tuple[str | int, ...]) -> Test:
    where = (*path, test)
    if test == "exists":
        if not isinstance(argument, bool):
            raise ConditionError(where, "takes true or false")
        return Test(subject, name, test, exists=argument)
    if test == "matches":
        try:
            return Test(subject, name, test, pattern=re.compile(argument))
        except (re.error, TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise ConditionError(where, f"is no regular expression: {exc}") from exc
    if test == "in":
        if not isinstance(argument, list) or not argument or any(isinstance(v, list | dict | None) for v in argument):
            raise ConditionError(where, "takes a list of values")
        return Test(subject, name, test, tuple(_text(v) for v in argument))
    if isinstance(argument, list | dict) or argument is None:
        raise ConditionError(where, "takes one value; use in: [...] for several")
    return Test(subject, name, test, (_text(argument),))


def field_of(document: Any, name: str) -> Any:
    """`a.b` goes down; a key that is itself called `a.b` is found too. None where there is nothing."""
    if not isinstance(document, dict):
        return None
    if name in document:
        return document[name]
    head, dot, rest = name.partition(".")
    return field_of(document.get(head), rest) if dot else None
