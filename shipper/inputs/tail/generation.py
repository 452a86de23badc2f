"""A log file generation: the same bytes under changing names, and every output's cursor in them."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from shipper import native
from shipper.checkpoint import CursorRow, GenerationRow
from shipper.inputs.tail.discovery import Found
from shipper.inputs.tail.files import OpenFile
from shipper.inputs.tail.identity import NO_FINGERPRINT, Fingerprint
from shipper.ledger import Cursor
from shipper.parsers import Format, State
from shipper.record import Source

NONE: Mapping[str, Any] = MappingProxyType({})  # for what most files have none of

Stall = tuple[int, int, bool, bool]  # position, end, whether that is the end for good, whether open records hold back


@dataclass(slots=True)
class Reading:
    """What a pump remembers of an output's reading at its cursor's position."""

    stalled: Stall | None = None  # so nothing could be read; it is tried again when any of it is different
    hold_until: float | None = None  # after that, records behind an open one are given out
    waits_since: float | None = None  # for the file before it to be opened
    quantum: int = 0  # bytes of the next read, beyond other cursors too; 0: the usual


def _none() -> Mapping[str, Any]:
    return NONE


class Known(NamedTuple):
    """What was known of a file at some time: it has at least these bytes then, and begins so."""

    size: int
    fingerprint: Fingerprint


@dataclass(slots=True, eq=False)
class Generation:
    """`size` counts decompressed bytes. `is_final`: nothing will ever be appended, so an unfinished end is the end.

    `path`, `is_gzip`, `device` and `inode` tell where it is on disk; `file` may still be one that it was in before.
    """

    id: int
    source: Source
    path: str  # where its bytes are now
    tag: str
    is_gzip: bool = False
    device: int = 0
    inode: int = 0
    fingerprint: Fingerprint = NO_FINGERPRINT
    id_base: str = ""
    format: Format | None = None
    first_seen: bytes = b""
    size: int = 0
    is_final: bool = False
    is_deleted: bool = False  # no path leads to it any more
    gone_at: float | None = None
    gaps: int = 0
    is_followed: bool = False  # by a file of the container's next restart that is no generation yet
    has_seen_follower: bool = False  # in this run
    file: OpenFile | None = None
    previous: "Generation | None" = None  # the one that the container wrote before this
    following: "Generation | None" = None  # ... and after this, of the same restart
    cursors: dict[str, Cursor] = field(default_factory=dict)
    parked: Mapping[str, Cursor] = field(default_factory=_none)  # of outputs that are not to have it, as things are now
    left_out_at: float | None = None  # since when no input takes it, though its file may be there
    is_dirty: bool = True  # its row differs from what is committed
    has_grown: bool = False  # ... in nothing but its size
    must_commit_first: bool = False  # its random id base is not durable yet
    # what the pipeline remembers of it
    limit: int | None = None  # --once: read up to here
    read_to: int = 0  # the furthest that any output has read
    readings: Mapping[str, "Reading"] = field(default_factory=_none)  # by output
    stood_at: int = -1  # its size when it was looked at some seconds ago
    seam_ends: bool = False  # nobody waits any more for a record to go on in the following generation: decided, ...
    seam_is_over: bool = False  # ... and durable: a crash must not make one record of what was sent as two
    seam_tried: tuple[int, int] = (-1, -1)  # sizes of this and the following one at which no end was found
    is_split: bool = False  # its outputs have drifted apart; nobody waits for the last
    seen_at: float = field(default_factory=time.monotonic)
    is_reading: bool = False  # a thread reads `file`
    awaits_scan: bool = False  # a scan is about to open its file again, and to tell what was written before and after
    # what the catalogue remembers of it
    at_scan: Known | None = None  # when the last scan began: what it finds is as old as that, or younger
    seen: Found | None = None  # its file, as it was when it was found to be its own
    is_doubtful: bool = False  # the bytes of its file are others now: a scan decides
    fitted: tuple[Fingerprint, int] | None = None  # a fingerprint, and the mark of bytes that it was found to fit
    news: tuple[int, bytes] | None = None  # what was seen at its end, and where that begins: for whoever reads it next
    _to_close: tuple[OpenFile, ...] = ()  # when the read that is under way has ended

    def __repr__(self) -> str:
        return f"<Generation {self.id} {self.path} {self.size}>"

    @property
    def end(self) -> int:
        """How far it may be read now."""
        return self.size if self.limit is None else min(self.limit, self.size)

    @property
    def known(self) -> Known:
        """What a scan's findings are held against: it may grow, and be looked at, while they are on their way."""
        return self.at_scan or Known(self.size, self.fingerprint)

    @property
    def ends_here(self) -> bool:
        """Whether `end` is the end for good."""
        return self.is_final or self.limit is not None

    def start_state(self) -> State:
        return State(self.first_seen)

    def has_unread(self) -> bool:
        end = self.size if self.limit is None else self.end
        for cursor in self.cursors.values():  # noqa: SIM110  asked for each line of a quiet file
            if cursor.position < end:
                return True
        return False

    def begins_like(self, head: bytes) -> bool:
        """Whether a file that begins with `head` can be this one: its fingerprint, or what was found to fit it before.

        Of that a hash is kept which only this process knows: it takes a quarter of the fingerprint's time.
        """
        same = self.fingerprint, native.mark_of(head[: self.fingerprint.length])
        if same == self.fitted:
            return True
        fits = self.fingerprint.fits(head)
        self.fitted = same if fits else None
        return fits

    def reading(self, output: str) -> Reading:
        found = self.readings.get(output)
        if found is None:
            found = Reading()
            self.readings = {**self.readings, output: found}
        return found

    def stall(self, output: str) -> Stall | None:
        """In which way this output has read it in vain."""
        found = self.readings.get(output)
        return None if found is None else found.stalled

    def forget_reading(self, output: str) -> None:
        if output in self.readings:
            self.readings = {name: reading for name, reading in self.readings.items() if name != output} or NONE

    def forget_readings(self) -> None:
        self.readings = NONE

    def forget_seam(self) -> None:
        """Somebody comes who has not looked yet whether its last record goes on in the next file."""
        self.seam_tried = (-1, -1)

    def is_stalled(self) -> bool:
        """Whether what is unread is no complete record, as far as some output has seen."""
        return any(r.stalled is not None for r in self.readings.values())

    def is_done(self) -> bool:
        """Every output has confirmed all of it."""
        end = self.end
        for cursor in self.cursors.values():  # noqa: SIM110  asked of each of thousands
            if cursor.acked < end or cursor.segments:
                return False
        return True

    def least_position(self) -> int:
        return min((c.position for c in self.cursors.values()), default=self.size)

    def all_cursors(self) -> Iterator[Cursor]:
        yield from self.cursors.values()
        yield from self.parked.values()

    def cursor_of(self, output: str) -> Cursor | None:
        """Also of one that is parked: what was read before that still gets its fate."""
        return self.cursors.get(output) or self.parked.get(output)

    def park(self, output: str, now: float) -> None:
        cursor = self.cursors.pop(output)
        self.parked = {**self.parked, output: cursor}
        cursor.park(now)
        self.forget_reading(output)

    def unpark(self, output: str) -> None:
        cursor = self.cursors[output] = self.parked[output]
        self.forget_parked(output)
        if cursor.parked_at is not None:
            cursor.park(None)

    def forget_parked(self, output: str) -> None:
        self.parked = {name: cursor for name, cursor in self.parked.items() if name != output} or NONE

    def unread_bytes(self) -> int:
        return self.size - self.least_position()

    def close(self) -> None:
        """At once, or after the read that is under way: its descriptor must not become another file's meanwhile."""
        if self.file is not None and self.is_reading:
            self._to_close += (self.file,)
        elif self.file is not None:
            self.file.close()
        self.file = None

    def end_read(self) -> None:
        self.is_reading = False
        files, self._to_close = self._to_close, ()
        for file in files:
            file.close()

    # -- rows ---------------------------------------------------------------------------------------------------------

    def to_row(self) -> GenerationRow:
        s = self.source
        return GenerationRow(
            id=self.id,
            input=s.input,
            path=self.path,
            live_path=s.path,
            namespace=s.namespace,
            pod=s.pod,
            uid=s.uid,
            container=s.container,
            restart=s.restart,
            device=self.device,
            inode=self.inode,
            fingerprint_bytes=self.fingerprint.length,
            fingerprint=self.fingerprint.digest,
            id_base=self.id_base,
            format=self.format or "",
            size=self.size,
            first_seen=self.first_seen.decode(),
            final=self.is_final,
            gone_at=self.gone_at,
            gaps=self.gaps,
            followed=self.is_followed,
            seam_over=self.seam_ends,
            left_out_at=self.left_out_at,
        )

    def is_to_be_committed(self) -> bool:
        """A size that a cursor tells as well needs no row of its own: live files grow for ever, and each of them is
        confirmed to its end at most times.
        """
        if self.has_grown and not self.is_dirty:
            for cursor in self.all_cursors():
                if self.size <= cursor.acked or (cursor.acked_ahead and self.size <= cursor.acked_ahead[-1][1]):
                    break
            else:
                self.is_dirty = True
        self.has_grown = False
        return self.is_dirty

    def committed(self, row: GenerationRow) -> bool:
        """A row of it is durable now. -> whether somebody waits for what it says."""
        is_news = self.must_commit_first or (row.seam_over and not self.seam_is_over)
        self.must_commit_first, self.seam_is_over = False, self.seam_is_over or row.seam_over
        return is_news

    @classmethod
    def from_row(cls, row: GenerationRow, tag: str) -> "Generation":
        source = Source(row.input, row.live_path, row.namespace, row.pod, row.uid, row.container, row.restart)
        return cls(
            id=row.id,
            source=source,
            path=row.path,
            tag=tag,
            is_gzip=row.path.endswith(".gz") and row.path != row.live_path,
            device=row.device,
            inode=row.inode,
            fingerprint=Fingerprint(row.fingerprint_bytes, row.fingerprint),
            id_base=row.id_base,
            format=row.format or None,  # type: ignore[arg-type]
            first_seen=row.first_seen.encode(),
            size=row.size,
            is_final=row.final,
            gone_at=row.gone_at,
            gaps=row.gaps,
            is_followed=row.followed,
            seam_ends=row.seam_over,
            seam_is_over=row.seam_over,
            left_out_at=row.left_out_at,
            is_dirty=False,
        )


def cursor_row(cursor: Cursor) -> CursorRow:
    state = cursor.acked_state
    return CursorRow(
        generation=cursor.generation,
        output=cursor.output,
        acked=cursor.acked,
        ahead=cursor.acked_ahead,
        last_time=state.last_time.decode(),
        inside=state.inside.decode(),
        cut=tuple(s.decode() for s in state.cut) if state.cut else (),
        fates=cursor.fates,
        unheard=cursor.unheard,
        parked_at=cursor.parked_at,
    )


def restore_cursor(row: CursorRow) -> Cursor:
    state = State(row.last_time.encode(), row.inside.encode(), tuple(s.encode() for s in row.cut))
    return Cursor(
        row.generation,
        row.output,
        acked=row.acked,
        ahead=row.ahead,
        state=state,
        fates=row.fates,
        unheard=row.unheard,
        parked_at=row.parked_at,
        is_dirty=False,
    )
