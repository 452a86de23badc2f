"""What cannot be read now, and why. Each problem is said and counted once, for as long as it lasts."""

import logging

from shipper.log import fields
from shipper.metrics import Metrics

log = logging.getLogger(__name__)


class Problems:
    """`now`: path -> sentence. A whole scan ends with `end_round`, which drops those that it has not met again."""

    def __init__(self, input_name: str, metrics: Metrics) -> None:
        self.now: dict[str, str] = {}
        self._errors = metrics.input_errors.labels(input_name, "unreadable")
        self._met: set[str] = set()

    def __repr__(self) -> str:
        return f"<Problems: {len(self.now)}>"

    def note(self, path: str, sentence: str) -> None:
        self._met.add(path)
        if self.now.get(path) == sentence:
            return
        self.now[path] = sentence
        self._errors.inc()
        log.warning("a path cannot be read; it is tried again", extra=fields(path=path, error=sentence))

    def end_round(self) -> None:
        self.now = {path: sentence for path, sentence in self.now.items() if path in self._met}
        self._met = set()
