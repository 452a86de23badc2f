"""Adds or replaces tags, by which outputs choose their records."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

import msgspec

from shipper.conditions import Condition
from shipper.filters.config import NAME, FilterConfig
from shipper.template import Template
from shipper.values import Doc, Flaw, Name, Placeholders

TagTemplate = Annotated[
    Template,
    Placeholders(("namespace", "pod", "container", "node", "path", "dir", "file", "stem", "label", "annotation")),
]


class TagRule(msgspec.Struct, frozen=True, kw_only=True):
    when: Annotated[
        Condition | None,
        Doc("Which records; all without it. What needs only metadata is decided once per chunk and costs nothing."),
    ] = None
    add: Annotated[TagTemplate | None, Doc("A tag to add to those that are there.")] = None
    set: Annotated[TagTemplate | None, Doc("The tag to put in place of those that are there.")] = None

    def flaws(self) -> Iterator[Flaw]:
        if (self.add is None) == (self.set is None):
            yield Flaw((), "a rule takes one of add and set")


class TagConfig(FilterConfig, frozen=True, kw_only=True):
    """Adds or replaces tags, by which outputs choose their records."""

    kind: ClassVar[str] = "tag"
    name: Annotated[Name, NAME] = "tag"
    rules: Annotated[tuple[TagRule, ...], Doc("All of them are looked at, in order.")]
