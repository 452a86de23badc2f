"""What the configurations of all filters share."""

from typing import Annotated, ClassVar

import msgspec

from shipper.values import Doc, Name, TagPattern

NAME = Doc("Unique among filters; the `name` label of its metrics. Default: the type.")


class FilterConfig(msgspec.Struct, frozen=True, kw_only=True):
    kind: ClassVar[str]
    name: Name
    match: Annotated[
        tuple[TagPattern, ...], Doc("Tag patterns; the filter sees records of which any tag fits any of them.")
    ] = ("*",)
