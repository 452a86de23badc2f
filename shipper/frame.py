"""What the hot path is told beside bytes: how the records of a log are framed, and where their documents go."""

from collections.abc import Sequence
from typing import NamedTuple

from shipper.body import Body
from shipper.parsers import Format
from shipper.record import Envelope

UTC = (b"Z", b"+00:00")  # how RFC 3339 times end whose leading parts are those of UTC


class Frame(NamedTuple):
    """How a container's records are framed, and what its documents may not overwrite."""

    format: Format
    merge: bool = True  # a message that is one JSON object: its keys stand at the top
    keep_message: bool = False  # ... and the line as `message` beside them
    reserved: frozenset[str] = frozenset(("@timestamp", "stream", "kubernetes"))
    limit: int = 1 << 20  # bytes of a record


class Target(NamedTuple):
    """One output's documents of a chunk: what stands around each, and the buffer that they are appended to.

    `time_prefix`: what the times of all records must begin with, and be in UTC, to belong to one index, key or path.
    """

    envelope: Envelope
    into: Body
    time_prefix: bytes = b""

    def suits(self, times: Sequence[bytes]) -> bool:
        prefix = self.time_prefix
        return not prefix or all(time.startswith(prefix) and time.endswith(UTC) for time in set(times))
