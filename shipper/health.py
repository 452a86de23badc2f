"""The answer to a probe."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Health:
    """`reasons` say why it is not `ok`, a sentence each; they are shown to whoever asks, so no secrets."""

    ok: bool
    reasons: Sequence[str] = ()
