"""The answer to a probe."""

from collections.abc import Sequence

import msgspec


class Health(msgspec.Struct, frozen=True):
    """`reasons` say why it is not `ok`, a sentence each; they are shown to whoever asks, so no secrets."""

    ok: bool
    reasons: Sequence[str] = ()
