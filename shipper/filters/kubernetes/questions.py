"""Single pods that were looked up and are not known: which one to ask the API for, and when. No I/O, no clock."""

from collections.abc import Collection

import msgspec

from shipper.filters.kubernetes.pace import Pace
from shipper.record import Source

KEEP_S = 60.0


class Question(msgspec.Struct):
    """`uid` is the path's."""

    uid: str
    namespace: str
    pod: str
    asked: float
    due: float
    attempts: int = 0


class Questions:
    """Each stays open until the watch or a GET has told (`close`), or nobody reads that pod any more (`retain`)."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._open: dict[str, Question] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, source: Source, now: float) -> bool:
        """True when it was not open yet."""
        if not source.uid or source.uid in self._open:
            return False
        self._open[source.uid] = Question(
            source.uid, source.namespace or "", source.pod or "", asked=now, due=now + self._pace.grace_s
        )
        return True

    def is_open(self, uid: str) -> bool:
        return uid in self._open

    def close(self, uid: str) -> None:
        self._open.pop(uid, None)

    def next(self) -> Question | None:
        """The one that is due first; it may lie in the future."""
        return min(self._open.values(), key=lambda question: question.due, default=None)

    def postpone(self, question: Question, now: float) -> None:
        """No answer came."""
        question.attempts += 1
        question.due = now + self._pace.backoff_s(question.attempts)

    def retain(self, uids: Collection[str], now: float) -> None:
        """One that was asked a moment ago stays: its file may be newer than the list."""
        for uid in self._open.keys() - set(uids):
            if now - self._open[uid].asked > KEEP_S:
                del self._open[uid]
