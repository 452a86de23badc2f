"""A message that is one JSON object: its keys become the record's."""

from typing import Annotated, ClassVar

from shipper.filters.config import NAME, FilterConfig
from shipper.values import Doc, Name


class JsonConfig(FilterConfig, frozen=True, kw_only=True):
    """A message that is one JSON object: its keys become the record's."""

    kind: ClassVar[str] = "json"
    name: Annotated[Name, NAME] = "json"
    keep_message: Annotated[bool, Doc("Keep the line as `message` beside the keys that it gave.")] = False
