"""The short way for what live logs mostly are: a line or two at the end of each of many files.

A sweep reads such ends, encodes them natively into the open batches and moves the cursors, file by file, in one step on
the event loop; batches and metrics hear of all of them together. It takes what is ordinary in every respect, and leaves
all else as it was for jobs and lanes (`pump`, `lanes`): these do the same for any file, and are what it is held to.
"""

from collections.abc import Mapping, Sequence

from shipper import native
from shipper.body import Body
from shipper.delivery import Piece
from shipper.encode import NativeForm, Said
from shipper.inputs.tail.generation import Generation
from shipper.ledger import UNMATCHED, Cursor
from shipper.metrics import Metrics
from shipper.outputs.worker import OutputWorker
from shipper.pipeline.plans import Plans, Way
from shipper.record import State
from shipper.router import Choice

SHORT_BYTES = 8 * 1024  # so little holds no more lines than any read may have
SWEPT_BYTES = 64 * 1024  # in one go: just written, so they come from the page cache
SWEPT_FILES = 500  # in one go: some milliseconds, before others of the event loop have their turn
_NONE_ODD: Mapping[int, int] = {}
_ODDITIES = ("joined", "parse_error", "invalid_utf8")  # the last three of `Said`


# Plain tuples, since thousands are made each second. An output that takes all of a file's end, and how:
Taker = tuple[Cursor, Way, NativeForm, Body]
# ... and its documents, where they stand in its open batch:
Written = tuple[Cursor, Way, Body, int, int, Said]


class Sweep:
    def __init__(self, plans: Plans, workers: Mapping[str, OutputWorker], metrics: Metrics) -> None:
        self._plans, self._workers, self._metrics = plans, workers, metrics
        self.files = self._bytes = 0
        self.is_full = False  # so much is swept that others have their turn
        self._is_batch_full = False  # of some output: it is to leave
        self._read_at = 0.0
        self._bodies: dict[str, Body] = {}  # of outputs that have room
        self._sizes: dict[str, int] = {}  # at which their batches leave
        self._pieces: dict[str, list[Piece]] = {}  # by output: written, and not added yet
        self._firsts: dict[str, list[int]] = {}  # input -> bytes and records that were read for the first time

    def __repr__(self) -> str:
        return f"<Sweep of {self.files} files>"

    def begin(self, now: float) -> None:
        """Until `end` nobody else may fill a batch, or seal one."""
        self.files, self._bytes, self._read_at, self.is_full = 0, 0, now, False
        self._look_for_room()

    def _look_for_room(self) -> None:
        self._is_batch_full = False
        if native.MODULE is not None:
            open_ = {name: worker for name, worker in self._workers.items() if worker.room_bytes > 0}
            self._bodies = {n: w.body for n, w in open_.items() if isinstance(w.body, native.MODULE.Body)}
            self._sizes = {name: worker.batch_bytes for name, worker in open_.items()}

    def end(self) -> None:
        """Batches and metrics hear of what was taken."""
        for output, pieces in self._pieces.items():
            self._workers[output].add(pieces)
        for name, (size, records) in self._firsts.items():
            self._metrics.input_bytes.labels(name).inc(size)
            self._metrics.input_records.labels(name).inc(records)
        self._pieces.clear()
        self._firsts.clear()

    def take(self, generation: Generation) -> bool:
        """Reads what is new in it, for all of its outputs. -> whether it did; if not, nothing has changed."""
        file, end = generation.file, generation.size
        takers = self._takers(generation) if _is_ordinary(generation) else ()
        if not takers or file is None:
            return False
        position = takers[0][0].position
        size = end - position
        if not 0 < size <= SHORT_BYTES:
            return False
        news, generation.news = generation.news, None  # read already, when its size was asked for
        if news is not None and news[0] == position and len(news[1]) == size:
            data = news[1]
        else:
            try:
                data = file.read(position, size)
            except OSError:
                return False  # whoever tries it next says so
            if len(data) != size:
                return False
        if len(generation.cursors) != 1 or not self._take_alone(generation, takers[0], data):
            written = _write(data, end, takers, generation.read_to)
            if not written:
                return False
            self._count(generation, position, written[0][-1])
            self._move(generation, end, written)
        self.files += 1
        self._bytes += size
        self.is_full = self._bytes >= SWEPT_BYTES or self.files >= SWEPT_FILES
        if self._is_batch_full:
            self.end()
            self._look_for_room()
        return True

    def _take_alone(self, generation: Generation, taker: Taker, data: bytes) -> bool:
        """The usual: one output, and nothing odd. All else comes to the same by `_write`, `_count` and `_move`."""
        cursor, way, form, body = taker
        position = cursor.position
        if generation.read_to > position:
            return False
        start = len(body)
        whole = form.append_whole(data, position, body, cursor.state.last_time, way.time_prefix)
        if whole is None:
            return False
        (records, last_time, stop), source, size = whole, generation.source, len(data)
        generation.read_to = end = position + size
        generation.is_split = False
        self._count_first(source.input, size, records)
        segment = cursor.take_all(end, State(last_time), records)
        piece = Piece(way.target, start, stop, records, source, segment, size, way.tag, self._read_at, _NONE_ODD)
        self._keep(cursor.output, piece)
        return True

    # -- what is ordinary ---------------------------------------------------------------------------------------------

    def _takers(self, generation: Generation) -> Sequence[Taker]:
        """The outputs that take all of it; none where any does not stand, or take, as the others do."""
        takers: list[Taker] = []
        prepared, bodies, before, first = self._plans.of(generation), self._bodies, generation.previous, None
        for name, cursor in generation.cursors.items():
            body = bodies.get(name)
            if body is None or not _is_free(cursor):
                return ()
            if before is not None and not _is_past(before, name):
                return ()
            if first is None:
                first = cursor
            elif (cursor.position, cursor.state) != (first.position, first.state):
                return ()
            way = prepared.ways.get(name)
            if way is None or way.time_prefix:
                plan = prepared.plan
                if plan.is_waiting or plan.dropped:
                    return ()
                if plan.choices[name] is Choice.LEAVES:
                    continue
                # Most records have the time of the one before, as far as targets tell; the native twin declines others.
                takes_all = plan.choices[name] is Choice.TAKES
                way = self._plans.way(generation, name, cursor.state.last_time) if takes_all else None
            if way is None or way.form is None:
                return ()
            takers.append((cursor, way, way.form, body))
        return takers

    # -- what was read ------------------------------------------------------------------------------------------------

    def _count(self, generation: Generation, position: int, said: Said) -> None:
        """Input metrics count what no output had read before."""
        known, name = generation.read_to, generation.source.input
        if said[2] <= known:
            return
        generation.read_to = said[2]
        self._count_first(name, said[2] - max(position, known), said[4])
        for kind, times in zip(_ODDITIES, said[7:], strict=True) if any(said[7:]) else ():
            if times:
                self._metrics.input_oddities.labels(name, kind).inc(times)

    def _count_first(self, input_name: str, size: int, records: int) -> None:
        counts = self._firsts.get(input_name)
        if counts is None:
            self._firsts[input_name] = [size, records]
        else:
            counts[0] += size
            counts[1] += records

    def _keep(self, output: str, piece: Piece) -> None:
        pieces = self._pieces.get(output)
        if pieces is None:
            self._pieces[output] = [piece]
        else:
            pieces.append(piece)
        if piece.end >= self._sizes[output]:
            self._is_batch_full = True

    def _move(self, generation: Generation, end: int, written: Sequence[Written]) -> None:
        """All cursors, over all of it."""
        source = generation.source
        for cursor, way, _, start, stop, said in written:
            records, size, _, last_time, _, odd_sizes, places, _, _, _ = said
            segment = cursor.take_all(end, State(last_time or b""), records)
            odd, read_at = dict(odd_sizes) if odd_sizes else {}, self._read_at
            piece = Piece(way.target, start, stop, records, source, segment, size, way.tag, read_at, odd, places or ())
            self._keep(cursor.output, piece)
        if len(written) < len(generation.cursors):
            self._leave(generation, end, written[0][-1])
        generation.is_split = False

    @staticmethod
    def _leave(generation: Generation, end: int, said: Said) -> None:
        """The cursors of those that do not take it."""
        for cursor in generation.cursors.values():
            if cursor.position < end:
                cursor.take(end, state=State(said[3] or b""), fates={UNMATCHED: said[1]}, records=0)


def _is_ordinary(generation: Generation) -> bool:
    """A plain file of CRI lines that grows, and of which nothing is remembered that a read depends on."""
    return not (
        generation.format != "cri"
        or not generation.cursors  # nobody is to have it, and its input may be gone
        or generation.readings
        or generation.is_final
        or generation.is_gzip
        or generation.must_commit_first
        or generation.awaits_scan
        or generation.limit is not None
    )


def _is_free(cursor: Cursor) -> bool:
    """It stands right behind a record, and nothing in front of it may have been sent before."""
    state = cursor.state
    if cursor.ahead or state.inside or state.cut:
        return False
    return cursor.sent_before is None or cursor.position >= cursor.sent_before.end


def _is_past(before: Generation, output: str) -> bool:
    """It has read all of the file before."""
    older = before.cursors.get(output)
    return older is None or older.position >= before.end


def _write(data: bytes, end: int, takers: Sequence[Taker], known: int) -> Sequence[Written]:
    """Appends the documents of all takers; of none, where the native twin leaves any of it to the other one."""
    written: list[Written] = []
    for cursor, way, form, body in takers:
        start = len(body)
        said = form.append(data, cursor.position, body, cursor.state.last_time, False, known, way.time_prefix)
        if said is None or said[1] != len(data) or said[2] != end:
            del body[start:]
            for _, _, each, begin, _, _ in written:
                del each[begin:]
            return ()
        written.append((cursor, way, body, start, len(body), said))
    return written
