"""What a replay of the archive shows: how far it is, and what came of it."""

import sys
import time
from typing import TextIO

from shipper.dead_letters import printable
from shipper.replay.archive import Tally

BAR = 30  # characters
BAR_EVERY_S = 0.2
LINE_EVERY_S = 10.0
MOST_SHOWN = 100  # objects that are not as they should be


class Progress:
    """A bar on a terminal, in place; elsewhere a line now and then."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._began = self._told_at = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._told_at >= (BAR_EVERY_S if self._is_terminal else LINE_EVERY_S):
            self._told_at = now
            self._tell(tally, now - self._began)

    def end(self, tally: Tally) -> None:
        """Where there is a bar, it is left as it is at the end."""
        if self._is_terminal:
            self._tell(tally, time.monotonic() - self._began)
            print(file=self._stream)

    def _tell(self, tally: Tally, passed_s: float) -> None:
        text = line(tally, passed_s)
        if self._is_terminal:
            print(f"\r{bar(tally)} {text}\x1b[K", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)


def bar(tally: Tally) -> str:
    share = tally.done_bytes / tally.bytes if tally.bytes else 1.0
    return f"[{'#' * int(share * BAR):-<{BAR}}] {share:4.0%}"


def line(tally: Tally, passed_s: float) -> str:
    answered = tally.sent + tally.present + tally.refused
    return (
        f"{tally.done_objects:,} of {tally.objects:,} objects, {answered:,} records "
        f"({answered / max(passed_s, 0.001):,.0f} a second), {tally.present:,} of them there already"
    )


def summary(tally: Tally, *, is_dry: bool) -> str:
    """On as many lines as there is something to say."""
    sent = "would be sent" if is_dry else "were sent"
    counts = f"{tally.sent:,} {sent}, {tally.present:,} were there already, {tally.refused:,} were refused"
    lines = [f"{tally.objects:,} objects, {tally.records:,} records: {counts}"]
    if tally.done_before:
        lines.append(f"{tally.done_before:,} objects were done by an earlier run, which was stopped")
    if tally.not_chosen:
        lines.append(f"{tally.not_chosen:,} records of another time or namespace")
    if tally.without_id:
        lines.append(
            f"{tally.without_id:,} records were archived without an id, and nobody can know whether they are there: "
            "--make-ids sends them all the same"
        )
    if tally.unplaceable:
        lines.append(f"{tally.unplaceable:,} records do not tell where they belong")
    if tally.problem_objects:
        lines.append(f"{tally.problem_objects:,} objects could not be used")
    shown = list(tally.problems.items())[:MOST_SHOWN]
    lines += [f"  {printable(key) or 'it'}: {printable(sentence)}" for key, sentence in shown]
    if len(tally.problems) > MOST_SHOWN:
        lines.append("  ...")
    return "\n".join(lines)
