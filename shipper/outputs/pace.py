"""How large requests are, and how many at once: as the destination can bear it, between bounds. Plain state, given the
time.

Additive increase, multiplicative decrease: what is taken quickly makes it bolder by a little, what is refused makes it
more careful by half. A destination that answers slowly gets fewer requests, and so larger ones, since batches grow
while all senders are busy. One that refuses a request by its size gets smaller ones.
"""

from typing import Literal

Outcome = Literal["taken", "busy", "silent", "too_large"]

SETTLE_S = 1.0  # at most one step back in so long: requests that are in flight were sent at the old pace
PROBE_AFTER_S = 600.0  # so long a size that was refused is not tried again
STEPS = 16  # from nothing to the largest batch


class Pace:
    """`batch_bytes` and `concurrency` are what goes now."""

    def __init__(self, *, least_bytes: int, most_bytes: int, most_requests: int, slow_s: float) -> None:
        """An answer that takes longer than `slow_s` is slow."""
        self.batch_bytes = most_bytes
        self._least_bytes, self._most_bytes = min(least_bytes, most_bytes), most_bytes
        self._requests, self._most_requests = float(most_requests), most_requests
        self._slow_s = slow_s
        self._stepped_back_at = float("-inf")
        self._ceiling, self._ceiling_until = most_bytes, float("-inf")

    def __repr__(self) -> str:
        return f"<Pace: {self.concurrency} requests of {self.batch_bytes} bytes>"

    @property
    def concurrency(self) -> int:
        """At least 1."""
        return int(self._requests)

    def answered(self, outcome: Outcome, *, seconds: float, size: int, now: float) -> None:
        """What became of a request of so many bytes, after so many seconds."""
        if outcome == "too_large":
            self._shrink(size, now)
        elif outcome == "taken":
            self._taken(seconds, size, now)
        elif self._may_step_back(now):
            if self.concurrency == 1:
                self.batch_bytes = max(self._least_bytes, self.batch_bytes // 2)
            self._requests = max(1.0, self._requests / 2)

    def _taken(self, seconds: float, size: int, now: float) -> None:
        if now >= self._ceiling_until:
            self._ceiling = self._most_bytes
        if size * 2 >= self.batch_bytes:  # a smaller one says nothing of larger ones
            self.batch_bytes = max(self.batch_bytes, min(self._ceiling, self.batch_bytes + self._most_bytes // STEPS))
        if seconds <= self._slow_s:
            self._requests = min(self._most_requests, self._requests + 1 / self._requests)
        elif self._may_step_back(now):
            self._requests = max(1.0, self._requests / 2)

    def _shrink(self, size: int, now: float) -> None:
        self._ceiling = min(self._most_bytes, max(self._least_bytes, size * 9 // 10))
        self._ceiling_until = now + PROBE_AFTER_S
        self.batch_bytes = max(self._least_bytes, min(self.batch_bytes, size // 2))

    def _may_step_back(self, now: float) -> bool:
        if now - self._stepped_back_at < SETTLE_S:
            return False
        self._stepped_back_at = now
        return True
