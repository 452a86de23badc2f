"""The daemon's own log: a constant sentence plus fields, as JSON lines on stderr (readable lines on a terminal).

    log = logging.getLogger(__name__)
    log.warning("the output cannot reach its destination", extra=fields(output="es", retry_in_s=2.5))

WARNING means unexpected, nothing lost; ERROR means data lost, or a person is needed. Nothing is logged per record, and
what repeats is cut to five lines a minute and the number of the others.
"""

import datetime as dt
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import msgspec
import orjson

PASSED_PER_WINDOW = 5
WINDOW_S = 60.0
MOST_WINDOWS = 1_000  # open at once: paths are many
KEY_FIELDS = ("output", "input", "filter", "path", "task", "reason")  # lines that differ in one of these are no repeats
LIBRARIES = (
    "aiobotocore",
    "aiohttp",
    "asyncio",
    "boto3",
    "botocore",
    "elastic_transport",
    "elasticsearch",
    "kubernetes_asyncio",
    "urllib3",
)

Key = tuple[Any, ...]


def fields(**values: Any) -> dict[str, Any]:
    """For `extra=`: what the sentence is about. Values are encoded as JSON; secrets never belong here."""
    return {"fields": values}


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Sends every log record to `stream` (stderr by default), in place of what an earlier call has set.

    `level` is one of logging's names, in any case. Libraries are heard from WARNING on.
    """
    root = logging.getLogger()
    for earlier in [h for h in root.handlers if isinstance(h, LineHandler)]:
        root.removeHandler(earlier)
        earlier.close()
    stream = sys.stderr if stream is None else stream
    root.addHandler(LineHandler(stream, show_readable if stream.isatty() else show_json))
    set_level(level)


def set_level(level: str) -> None:
    """Of what `configure` has set up; without it, nothing is changed."""
    root = logging.getLogger()
    if not any(isinstance(handler, LineHandler) for handler in root.handlers):
        return
    root.setLevel(level.upper())
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


class Line(msgspec.Struct, frozen=True):
    """A log record, apart from its form."""

    time: float  # seconds since the epoch
    level: str
    logger: str
    message: str
    fields: dict[str, Any]
    exception: str = ""

    @classmethod
    def of(cls, record: logging.LogRecord) -> "Line":
        return cls(
            record.created,
            record.levelname.lower(),
            record.name,
            record.getMessage(),
            getattr(record, "fields", {}),
            logging.Formatter().formatException(record.exc_info) if record.exc_info else "",
        )

    @property
    def key_fields(self) -> dict[str, Any]:
        return {name: str(self.fields[name]) for name in KEY_FIELDS if name in self.fields}


class _Window(msgspec.Struct):
    ends: float
    first: Line
    seen: int = 0

    def count(self, time: float) -> Line | None:
        """The line that stands for those that were suppressed."""
        suppressed = self.seen - PASSED_PER_WINDOW
        if suppressed <= 0:
            return None
        about = {"suppressed": suppressed, "sentence": self.first.message} | self.first.key_fields
        return Line(time, self.first.level, self.first.logger, "more of the same were suppressed", about)


class RateLimit:
    """Lets the first five of equal lines a minute pass, then says how many were not. Plain state, given the time."""

    def __init__(self) -> None:
        self._windows: dict[Key, _Window] = {}  # in the order in which they end

    def admit(self, line: Line, key: Key, now: float) -> list[Line]:
        """What to write now: the counts of the windows that have ended, then `line` unless it is one too many."""
        ended = self._end(now, line.time)
        window = self._windows.setdefault(key, _Window(now + WINDOW_S, line))
        window.seen += 1
        return [*ended, line] if window.seen <= PASSED_PER_WINDOW else ended

    def end_all(self, time: float) -> list[Line]:
        return self._end(float("inf"), time)

    def _end(self, now: float, time: float) -> list[Line]:
        counts: list[Line | None] = []
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if window.ends > now and len(self._windows) < MOST_WINDOWS:
                break
            del self._windows[key]
            counts.append(window.count(time))
        return [count for count in counts if count is not None]


class LineHandler(logging.Handler):
    """Writes what the rate limit admits. Thread-safe, as every Handler is: logging holds its lock around `emit`."""

    def __init__(
        self, stream: TextIO, show: Callable[[Line], str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._stream = stream
        self._show = show
        self._clock = clock
        self._limit = RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = Line.of(record)
            key = (record.name, str(record.msg), *line.key_fields.items())
            self._write(self._limit.admit(line, key, self._clock()))
        except Exception:  # noqa: BLE001  as in all of logging's handlers: a log line must not break what it tells of
            self.handleError(record)

    def close(self) -> None:
        """Says what was suppressed until now; the stream stays open."""
        self.acquire()
        try:
            self._write(self._limit.end_all(time.time()))
        finally:
            self.release()
        super().close()

    def _write(self, lines: list[Line]) -> None:
        if lines:
            self._stream.write("".join(self._show(line) + "\n" for line in lines))
            self._stream.flush()


def show_json(line: Line) -> str:
    entry: dict[str, Any] = {
        "time": _rfc3339(line.time),
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
    }
    if line.exception:
        entry["exception"] = line.exception
    entry |= {f"field_{name}" if name in entry else name: value for name, value in line.fields.items()}
    try:
        return _encode(entry)
    except TypeError:
        return _encode({name: _encodable(value) for name, value in entry.items()})


def show_readable(line: Line) -> str:
    about = "".join(f" {name}={_readable(value)}" for name, value in line.fields.items())
    text = f"{_rfc3339(line.time)} {line.level.upper():<7} {line.logger}: {_readable(line.message, spaces=True)}{about}"
    return f"{text}\n{line.exception}" if line.exception else text


def _readable(value: Any, *, spaces: bool = False) -> str:
    """Quoted where it would otherwise run into the next field, or steer the terminal."""
    text = str(value)
    return text if text.isprintable() and text and (spaces or " " not in text) else repr(text)


def _encode(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _encodable(value: Any) -> Any:
    """Integers over 64 bits, lone surrogates, circles and the like are shown as Python shows them."""
    try:
        _encode(value)
    except TypeError:
        return ascii(value)
    return value


def _rfc3339(time: float) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
