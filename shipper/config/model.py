"""The whole configuration. Components own their models; here they are only collected."""

from typing import Annotated

import msgspec

from shipper.config.shapes import Types
from shipper.filters import FILTERS
from shipper.filters.config import FilterConfig
from shipper.inputs import INPUTS
from shipper.inputs.tail.config import TailConfig
from shipper.outputs import OUTPUTS
from shipper.outputs.config import OutputConfig
from shipper.service import DeadLettersConfig, HttpConfig, ServiceConfig
from shipper.values import Doc

__all__ = ["Config", "DeadLettersConfig", "HttpConfig", "ServiceConfig"]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Checked: what `shipper.config.loader.load` returns needs no further look."""

    service: Annotated[ServiceConfig, Doc("The daemon itself.")] = msgspec.field(default_factory=ServiceConfig)
    inputs: Annotated[
        tuple[Annotated[TailConfig, Types("input", INPUTS)], ...], Doc("Where records come from; at least one.")
    ]
    filters: Annotated[
        tuple[Annotated[FilterConfig, Types("filter", FILTERS)], ...],
        Doc("What happens to them on the way, in order. None is implied."),
    ] = ()
    outputs: Annotated[
        tuple[Annotated[OutputConfig, Types("output", OUTPUTS)], ...],
        Doc("Where they go; each delivers independently of the others, with its own cursors. At least one."),
    ]
