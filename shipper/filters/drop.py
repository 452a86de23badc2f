"""Drops records on purpose; they are counted as filtered, with the filter's name."""

from typing import Annotated, ClassVar

from shipper.conditions import Condition
from shipper.filters.config import NAME, FilterConfig
from shipper.values import Doc, Name


class DropConfig(FilterConfig, frozen=True, kw_only=True):
    """Drops records on purpose; they are counted as filtered, with the filter's name."""

    kind: ClassVar[str] = "drop"
    name: Annotated[Name, NAME] = "drop"
    when: Annotated[Condition, Doc("Which records to drop.")]
