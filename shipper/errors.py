"""Every exception that crosses a module's border.

    ShipperError
    |-- ConfigError         the YAML is wrong: all problems at once (exit code 2)
    |-- StateError          the state directory cannot be used (exit code 1)
    |   |-- StateLocked     another process works on it
    |   |-- StateGone       it was deleted while this one worked on it: only a new start helps
    |   `-- StateTooNew     written by a newer version: refused, never overwritten
    `-- Disconnected        an output reached nobody; what it was given is to be sent again

A library's own exceptions are translated into these once, at the seam, with `from exc`.
"""

import msgspec


class ShipperError(Exception):
    """Base of all; its text is a sentence for a person."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong in a configuration file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    path: str
    sentence: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        return where + (f"{self.path}: " if self.path else "") + self.sentence


class ConfigError(ShipperError):
    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class StateError(ShipperError):
    pass


class StateLocked(StateError):
    pass


class StateGone(StateError):
    pass


class StateTooNew(StateError):
    pass


class Disconnected(ShipperError):
    """No answer came from a destination. `ambiguous`: the request may have been applied all the same.

    `reason` is the metric label of the retry: `timeout`, `reset`, `refused`, `auth`, ...
    """

    def __init__(self, sentence: str, *, reason: str, ambiguous: bool = True, delay_s: float | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.ambiguous = ambiguous
        self.delay_s = delay_s
