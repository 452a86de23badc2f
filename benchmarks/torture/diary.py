"""What happened when, for whoever asks how a failure came about: a line for each event, in the run's folder."""

from datetime import UTC, datetime
from pathlib import Path


class Diary:
    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, what: str) -> None:
        """With the time as the daemon's own log has it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{now} {what}\n")
