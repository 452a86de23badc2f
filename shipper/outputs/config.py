"""What the configurations of all outputs share."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

import msgspec

from shipper.template import NAMED, PLAIN, Template
from shipper.values import Doc, Duration, Flaw, Name, Placeholders, PositiveDuration, PositiveSize, TagPattern

Target = Annotated[Template, Placeholders(tuple(p for p in PLAIN if p != "id") + NAMED)]

NAME = Doc("Unique among outputs; the cursors belong to it, so a new name begins anew. Default: the type.")


class BatchConfig(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: Annotated[PositiveSize, Doc("Uncompressed bytes of documents at which a batch is sent.")] = 5 * 2**20
    max_age: Annotated[
        Duration, Doc("Age at which a batch is sent, however small; the first after a quiet time leaves at once.")
    ] = 0.1


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Doubled after each failure, with jitter, up to `max`. Never given up: the log file is the buffer."""

    initial: Annotated[PositiveDuration, Doc("Wait after the first failure; doubled after each further one.")] = 0.5
    max: Annotated[PositiveDuration, Doc("Longest wait between two attempts.")] = 30.0

    def flaws(self) -> Iterator[Flaw]:
        if self.max < self.initial:
            yield Flaw(("max",), "must not be less than initial")


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True):
    kind: ClassVar[str]
    name: Name
    match: Annotated[
        tuple[TagPattern, ...], Doc("Tag patterns; records of which any tag fits any of them are delivered here.")
    ] = ("*",)
    batch: Annotated[BatchConfig, Doc("What one request carries.")] = BatchConfig()
    retry: Annotated[RetryConfig, Doc("Waits between attempts; there is no last one.")] = RetryConfig()
