"""What of a replay is done, in a small file below the state's folder: the same command, given again, goes on there.

It only saves work. What it does not know of is replayed once more, and found to be there by its ids.
"""

import contextlib
import logging
import time
from hashlib import blake2b
from pathlib import Path
from typing import Self

import msgspec

from shipper.log import fields
from shipper.outputs.s3.bucket import Listed

log = logging.getLogger(__name__)

FOLDER = "replay"
MOST_EXCEPTIONS = 10_000


class _Noted(msgspec.Struct):
    began: float  # epoch seconds: what came into the archive since then is not done, whatever its key
    done: str  # all objects up to this key are, ...
    but: list[str] = []  # ... but for these, of which something was refused or could not be read


class Progress:
    """Objects are done in the order of their keys. Where the file cannot be written, nothing is remembered."""

    def __init__(self, path: Path, noted: _Noted, *, is_begun: bool) -> None:
        self.path = path
        self.is_begun = is_begun  # by an earlier run
        self._noted = noted
        self._is_full = self._has_failed = False
        self._before = frozenset(noted.but)
        self._up_to = noted.done if is_begun else None

    @classmethod
    def of(cls, state_dir: str, *command: object) -> Self:
        """`command`: all that decides what is replayed, and where to."""
        name = blake2b(msgspec.json.encode([str(part) for part in command]), digest_size=8).hexdigest()
        path = Path(state_dir) / FOLDER / f"{name}.json"
        try:
            noted = msgspec.json.decode(path.read_bytes(), type=_Noted)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return cls(path, _Noted(time.time(), ""), is_begun=False)
        return cls(path, noted, is_begun=True)

    def is_done(self, listed: Listed) -> bool:
        """By an earlier run."""
        if self._up_to is None or listed.key > self._up_to or listed.key in self._before:
            return False
        return listed.modified < self._noted.began

    def note(self, key: str, *, is_whole: bool) -> None:
        """The object is done, and all before it. Where too many are not whole, no more is noted."""
        if not is_whole and key not in self._noted.but:
            if len(self._noted.but) >= MOST_EXCEPTIONS:
                self._is_full = True
            self._noted.but.append(key)
        elif is_whole and key in self._before:
            self._noted.but.remove(key)
        if not self._is_full:
            self._noted.done = max(self._noted.done, key)

    def save(self) -> None:
        """Whole, or as it was."""
        aside = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_bytes(msgspec.json.encode(self._noted))
            aside.replace(self.path)
        except OSError as exc:
            if not self._has_failed:
                log.warning(
                    "what is done cannot be noted: a replay that is stopped begins anew",
                    extra=fields(path=str(self.path), error=str(exc)),
                )
            self._has_failed = True

    def remove(self) -> None:
        """All is done."""
        with contextlib.suppress(OSError):
            self.path.unlink()
