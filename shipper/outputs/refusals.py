"""Tells of rejected records in the log: a line a reason, not a line a record."""

import asyncio
import logging

import msgspec

from shipper.log import fields

log = logging.getLogger(__name__)

WINDOW_S = 60.0
MOST_REASONS = 50  # told apart; a destination has few, but nothing bounds them
OTHERS = "others"


class _Window(msgspec.Struct):
    """What was not told yet of one reason."""

    records: int = 0
    detail: str = ""


class Refusals:
    """The first of a reason is told at once; what follows, once a minute with how many records it was.

    Only within a running event loop.
    """

    def __init__(self, output: str) -> None:
        self._output = output
        self._windows: dict[str, _Window] = {}

    def note(self, reason: str, records: int, detail: str) -> None:
        reason = reason if reason in self._windows or len(self._windows) < MOST_REASONS else OTHERS
        window = self._windows.get(reason)
        if window is None:
            self._tell(reason, records, detail)
            self._open(reason)
        else:
            window.records, window.detail = window.records + records, detail

    def _open(self, reason: str) -> None:
        self._windows[reason] = _Window()
        asyncio.get_running_loop().call_later(WINDOW_S, self._end, reason)

    def _end(self, reason: str) -> None:
        window = self._windows.pop(reason)
        if window.records:
            self._tell(reason, window.records, window.detail)
            self._open(reason)

    def flush(self) -> None:
        """What was held back until now."""
        for reason, window in self._windows.items():
            if window.records:
                self._tell(reason, window.records, window.detail)
                window.records = 0

    def _tell(self, reason: str, records: int, detail: str) -> None:
        log.error(
            "records were rejected and are kept as dead letters",
            extra=fields(output=self._output, reason=reason, records=records, detail=detail),
        )
