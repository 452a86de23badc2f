"""What becomes of a chunk: bytes of a log file in, documents in the outputs' batches out, every byte given its fate.

There are two ways through. The *raw lane* is for chunks that every output takes whole, each under one target, or not at
all: `encode`, in one call. The *record lane* is for all others: the same parsers give columns, filters and targets
choose among records, the same writer writes them.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from prometheus_client import Counter as Counted

from shipper.delivery import Piece, Span
from shipper.document import rfc3339
from shipper.encode import encode, encode_natively, may_be_native, write
from shipper.frame import Target
from shipper.inputs.tail.generation import Generation
from shipper.ledger import UNMATCHED, BesideSpan, Cursor, Fates, SeamSpan, Segment, filtered
from shipper.metrics import Metrics
from shipper.outputs.worker import OutputWorker
from shipper.parsers import Ranges, Records, State, Summary, parse
from shipper.parsers.seam import Seam, join_over_rotation
from shipper.pipeline.drafts import Asked, Draft, Taker
from shipper.pipeline.plans import Plans, Prepared, time_key
from shipper.pipeline.routed import Routed, Tags
from shipper.router import Choice

_LONGEST_TIME = 36  # bytes of an RFC 3339 time to the nanosecond with its zone, and a space


@dataclass(slots=True)
class Chunk:
    """Bytes that were read for some outputs at once: they all stand at `position`."""

    generation: Generation
    cursors: list[Cursor]
    position: int
    data: bytes
    is_end: bool  # nothing will ever follow `data`
    hold: bool  # whether an open record keeps back those behind it
    read_at: float = field(default_factory=time.monotonic)
    skip: Ranges = field(init=False)  # as it is before any of the cursors moves
    state: State = field(init=False)  # likewise

    def __post_init__(self) -> None:
        self.skip, self.state = self.cursors[0].ahead, self.cursors[0].state

    def first_time(self) -> bytes:
        """Of its first record, as it looks."""
        return self.data[:_LONGEST_TIME].partition(b" ")[0]


@dataclass(frozen=True, slots=True)
class Part:
    """Records of a chunk that go to one target."""

    records: Records
    target: str
    tags: Tags


class Lanes:
    """Synchronous: called by the pump between two reads."""

    def __init__(self, plans: Plans, workers: Mapping[str, OutputWorker], metrics: Metrics) -> None:
        self._plans, self._workers, self._metrics = plans, workers, metrics
        self._known_counters: dict[str, tuple[Counted, Counted]] = {}

    def draft(self, chunk: Chunk, *, ends_here: bool) -> Draft | None:
        """Of a chunk whose `data` is yet to be read: for a thread to write. None where it is nothing for a thread."""
        prepared, time_ = self._plans.of(chunk.generation), chunk.state.last_time
        takers = self._takers(chunk, prepared, time_)
        targets = [taker.target for taker in takers]
        if not targets or not may_be_native(
            prepared.frame, targets, skip=chunk.skip, hold=chunk.hold, state=chunk.state
        ):
            return None
        return Draft(_asked(chunk, prepared, takers), time_, ends_here)

    def accept(self, chunk: Chunk, draft: Draft) -> bool | None:
        """What a thread has written of it. -> whether anything was consumed; None where it is not what is to be."""
        if chunk.hold and not chunk.skip:
            prepared = self._plans.of(chunk.generation)
            takers = self._takers(chunk, prepared, draft.time)
            if draft.is_for(_asked(chunk, prepared, takers), is_end=chunk.is_end):
                assert draft.summary is not None
                return self._advance(chunk, prepared, takers, draft.summary, draft.bounds)
        return None

    def process(self, chunk: Chunk) -> bool:
        """-> whether anything was consumed."""
        prepared = self._plans.of(chunk.generation)
        for cursor in chunk.cursors:
            self._workers[cursor.output].cut()  # drafts that do not stand where they should
        takers = self._takers(chunk, prepared, chunk.first_time())
        has_advanced = self._raw(chunk, prepared, takers) if takers else None
        return self._by_record(chunk, prepared) if has_advanced is None else has_advanced

    # -- raw lane -----------------------------------------------------------------------------------------------------

    def _takers(self, chunk: Chunk, prepared: Prepared, time_: bytes) -> list[Taker]:
        """The outputs that take all of the chunk, each under one target; none where that is not so for all of them.

        `time_`: of the chunk's first record, for targets with a time in them, as it seems. `encode` says whether the
        others have what matters of it in common.
        """
        choices = prepared.plan.choices
        takers: list[Taker] = []
        if prepared.plan.dropped:
            return takers
        for cursor in chunk.cursors:
            if choices[cursor.output] is Choice.LEAVES:
                continue
            found = self._taker(chunk, cursor, time_) if choices[cursor.output] is Choice.TAKES else None
            if found is None:
                return []
            takers.append(found)
        return takers

    def _taker(self, chunk: Chunk, cursor: Cursor, time_: bytes) -> Taker | None:
        worker, way = self._workers[cursor.output], self._plans.way(chunk.generation, cursor.output, time_)
        if way is None:
            return None
        return Taker(cursor, worker, way.target, Target(way.envelope, worker.body, way.time_prefix))

    def _raw(self, chunk: Chunk, prepared: Prepared, takers: Sequence[Taker]) -> bool | None:
        """-> whether anything was consumed; None where the records have not one target each."""
        targets = [taker.target for taker in takers]
        starts = [len(target.into) for target in targets]
        summary = encode(
            chunk.data,
            chunk.position,
            prepared.frame,
            targets,
            skip=chunk.skip,
            final=chunk.is_end,
            hold=chunk.hold,
            state=chunk.state,
            read_time=_read_time(prepared),
            known=chunk.generation.read_to,
        )
        if summary is None:
            return None
        bounds = [(start, len(target.into)) for start, target in zip(starts, targets, strict=True)]
        return self._advance(chunk, prepared, takers, summary, bounds)

    def _advance(
        self,
        chunk: Chunk,
        prepared: Prepared,
        takers: Sequence[Taker],
        summary: Summary,
        bounds: Sequence[tuple[int, int]],
    ) -> bool:
        """Moves the cursors over what was encoded. `bounds`: of its documents, in each taker's body."""
        if not self._advances(chunk, summary):
            return False
        self._count_first_read(chunk, summary)
        fates = self._empty(chunk, summary)
        taking = {id(taker.cursor): (taker, where) for taker, where in zip(takers, bounds, strict=True)}
        for cursor in chunk.cursors:
            if id(cursor) not in taking:
                _take(cursor, summary, fates | {UNMATCHED: summary.source_bytes}, records=0)
                continue
            taker, where = taking[id(cursor)]
            segment = _take(cursor, summary, fates, records=summary.records)
            has_ids = taker.target.envelope.id_prefix is not None
            piece = _piece(chunk, segment, summary, taker.name, prepared.plan.tags, bounds=where, has_ids=has_ids)
            _doubt(taker.worker, cursor, chunk.position)
            taker.worker.add([piece])
        return True

    # -- record lane --------------------------------------------------------------------------------------------------

    def _by_record(self, chunk: Chunk, prepared: Prepared) -> bool:
        records = parse(
            chunk.data,
            chunk.position,
            prepared.frame.format,
            state=chunk.state,
            skip=chunk.skip,
            final=chunk.is_end,
            hold=chunk.hold,
            limit=prepared.frame.limit,
            read_time=_read_time(prepared),
        )
        summary = Summary.of(records, known=chunk.generation.read_to)
        if not self._advances(chunk, summary):
            return False
        plan, fates = prepared.plan, self._empty(chunk, summary)
        if plan.dropped:
            if self._count_first_read(chunk, summary):
                self._metrics.filter_dropped_records.labels(*plan.dropped).inc(len(records))
            for cursor in chunk.cursors:
                _take(cursor, summary, fates | {filtered(*plan.dropped): summary.source_bytes}, records=0)
            return True
        routed = Routed.of(records, plan)
        fates |= {filtered(*by): size for by, size in routed.dropped_bytes.items()}
        for cursor in chunk.cursors:
            invalid = self._deliver_to(chunk, cursor, routed, summary, fates)
            summary.invalid_utf8 = max(summary.invalid_utf8, invalid)
        is_first = self._count_first_read(chunk, summary)
        for by, count in routed.dropped_records.items() if is_first else ():
            self._metrics.filter_dropped_records.labels(*by).inc(count)
        return True

    def _deliver_to(self, chunk: Chunk, cursor: Cursor, routed: Routed, summary: Summary, fates: Fates) -> int:
        """-> in how many records bytes became U+FFFD."""
        records = routed.records
        parts = [
            Part(records if len(places) == len(records) else records.take(places), target, tags)
            for (target, tags), places in self._groups(chunk.generation, cursor.output, routed).items()
        ]
        taken = sum(sum(part.records.sizes) for part in parts)
        left = summary.source_bytes - sum(routed.dropped_bytes.values()) - taken
        count = sum(len(part.records) for part in parts)
        segment = _take(cursor, summary, fates | ({UNMATCHED: left} if left else {}), records=count)
        pieces, invalid = [], 0
        for part in parts:
            piece, in_part = self._append(chunk, cursor.output, segment, part, is_whole=part.records is records)
            pieces.append(piece)
            invalid = max(invalid, in_part)
        _doubt(self._workers[cursor.output], cursor, chunk.position)
        self._workers[cursor.output].add(pieces)
        return invalid

    def _groups(self, generation: Generation, output: str, routed: Routed) -> dict[tuple[str, Tags], Sequence[int]]:
        """Places of the records that this output takes, by target and tags."""
        records, plan = routed.records, routed.plan
        choice = plan.choices[output]
        if choice is Choice.LEAVES or plan.dropped or not len(records):
            return {}
        template, match = self._workers[output].output.template, plan.routes[output].match
        if choice is Choice.TAKES and not template.needs_record and not routed.tags:
            times = {time_key(time_, template.time_chars) for time_ in records.times} if template.time_chars else {b""}
            if len(times) == 1:
                target = self._plans.target(generation, output, records.times[0], plan.tags)
                return {(target, plan.tags): range(len(records))}
        found: dict[tuple[str, Tags], list[int]] = {}
        cache: dict[tuple[bytes, Tags], str] = {}
        for i, time_ in enumerate(records.times):
            tags = routed.tags_of(i)
            if tags is None or (choice is Choice.BY_RECORD and not routed.fits(match, tags)):
                continue
            if template.needs_record:
                target = self._plans.record_target(generation, output, time_, tags, routed.record(i))
            else:
                key = (time_key(time_, template.time_chars) if template.time_chars else b"", tags)
                target = cache.get(key) or cache.setdefault(key, self._plans.target(generation, output, time_, tags))
            found.setdefault((target, tags[:1]), []).append(i)  # of the tags, a piece keeps the first
        return dict[tuple[str, Tags], Sequence[int]](found)

    def _append(
        self, chunk: Chunk, output: str, span: Span, part: Part, *, is_whole: bool = False
    ) -> tuple[Piece, int]:
        """Writes documents into an output's open batch, of which `OutputWorker.add` must be told then.

        `is_whole`: all records of the chunk. -> what was written, and in how many records bytes became U+FFFD.
        """
        worker = self._workers[output]
        envelope = self._plans.envelope(chunk.generation, output, part.target)
        start = len(worker.body)
        invalid = self._write(chunk, part.records, Target(envelope, worker.body), is_whole=is_whole)
        bounds, has_ids = (start, len(worker.body)), envelope.id_prefix is not None
        summary = Summary.of(part.records, with_places=not has_ids)
        return _piece(chunk, span, summary, part.target, part.tags, bounds=bounds, has_ids=has_ids), invalid

    def _write(self, chunk: Chunk, records: Records, target: Target, *, is_whole: bool) -> int:
        """Natively where that is possible: from the bytes of the chunk once more, which is sooner done."""
        frame = self._plans.of(chunk.generation).frame
        if is_whole and may_be_native(frame, [target], skip=chunk.skip, hold=chunk.hold, state=chunk.state):
            summary = encode_natively(
                chunk.data, chunk.position, frame, [target], final=chunk.is_end, state=chunk.state, known=0
            )
            if summary is not None:
                return summary.invalid_utf8
        return write(records, frame, target.envelope, target.into)

    # -- a record over a rotation -------------------------------------------------------------------------------------

    def process_seam(self, chunk: Chunk, following: Generation, new_cursors: Sequence[Cursor], head: bytes) -> bool:
        """Records that are open at the end of a file (`chunk`), ended by the next one's head. -> whether they are.

        `new_cursors`: of the chunk's outputs, in the same order, in the file that follows.
        """
        prepared, first = self._plans.of(chunk.generation), chunk.cursors[0]
        for cursor in chunk.cursors:
            self._workers[cursor.output].cut()
        frame = prepared.frame
        seam = join_over_rotation(
            chunk.data, first.position, head, frame.format, state=first.state, skip=first.ahead, limit=frame.limit
        )
        if seam is None:
            return False
        records = seam.records
        border = first.position + len(chunk.data)
        records.consumed, records.state, records.ahead = border, first.state, ()
        ends = [border if crosses else end for end, crosses in zip(records.ends, seam.crosses, strict=True)]
        summary = Summary.of(msgspec.structs.replace(records, ends=ends), known=chunk.generation.read_to)
        self._count_first_read(chunk, summary)
        routed = Routed.of(records, prepared.plan)
        for old, new in zip(chunk.cursors, new_cursors, strict=True):
            self._deliver_seam(chunk, seam, routed, old, new)
            following.read_to = max(following.read_to, new.position, *(end for _, end in new.ahead))
        return True

    def _deliver_seam(self, chunk: Chunk, seam: Seam, routed: Routed, old: Cursor, new: Cursor) -> None:
        """Both segments hear of all records, so that both cursors move in one step; of those that cross, one by one."""
        records = seam.records
        new_sizes = [size - old_size for size, old_size in zip(records.sizes, seam.old_sizes, strict=True)]
        groups = self._groups(chunk.generation, old.output, routed)
        taken = {i: key for key, places in groups.items() for i in places}
        old_fates, new_fates = Counter[str](), Counter[str]()
        for i in set(range(len(records))) - set(taken):
            old_fates[routed.fate(i)] += seam.old_sizes[i]
            new_fates[routed.fate(i)] += new_sizes[i]
        old_segment = _take(old, Summary.of(records), old_fates, records=len(taken))
        new_segment = new.take(
            seam.position,
            ahead=seam.ahead,
            state=new.state if seam.state is None else seam.state,
            fates={fate: size for fate, size in new_fates.items() if size},
            records=len(taken),
        )
        beside = BesideSpan(old_segment, new_segment)
        parts: list[tuple[Span, Part]] = []
        for (target, tags), places in groups.items():
            if within := [i for i in places if not seam.crosses[i]]:
                parts.append((beside, Part(records.take(within), target, tags)))
        for i, (target, tags) in taken.items():
            if seam.crosses[i]:
                span = SeamSpan(old_segment, new_segment, seam.old_sizes[i], new_sizes[i])
                parts.append((span, Part(records.take([i]), target, tags)))
        _doubt(self._workers[old.output], old, chunk.position)
        self._workers[old.output].add([self._append(chunk, old.output, span, part)[0] for span, part in parts])

    # -- both ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _advances(chunk: Chunk, summary: Summary) -> bool:
        return summary.consumed > chunk.position or summary.ahead != chunk.skip

    @staticmethod
    def _empty(chunk: Chunk, summary: Summary) -> Fates:
        name = chunk.generation.source.input
        return {filtered(name, "empty"): summary.empty_bytes} if summary.empty_bytes else {}

    def _counters(self, input_name: str) -> tuple[Counted, Counted]:
        """Of bytes and of records: looked up once, not for each chunk."""
        found = self._known_counters.get(input_name)
        if found is None:
            metrics = self._metrics
            found = metrics.input_bytes.labels(input_name), metrics.input_records.labels(input_name)
            self._known_counters[input_name] = found
        return found

    def _count_first_read(self, chunk: Chunk, summary: Summary) -> bool:
        """Input metrics count what no output had read before: records that end beyond all that was given out."""
        generation = chunk.generation
        known, reached = generation.read_to, summary.ahead[-1][1] if summary.ahead else summary.consumed
        if reached <= known:
            return False
        name = generation.source.input
        generation.read_to = reached
        count_bytes, count_records = self._counters(name)
        count_bytes.inc(reached - max(chunk.position, known))
        count_records.inc(summary.new_records)
        for kind, times in summary.oddities().items():
            self._metrics.input_oddities.labels(name, kind).inc(times)
        if summary.empties:
            self._metrics.filter_dropped_records.labels(name, "empty").inc(summary.empties)
        return True


def _read_time(prepared: Prepared) -> bytes:
    """For records that carry no time of their own."""
    return rfc3339(time.time()) if prepared.frame.format in ("json", "text") else b""


def _asked(chunk: Chunk, prepared: Prepared, takers: Sequence[Taker]) -> Asked:
    return Asked(chunk.position, chunk.state, prepared.frame, chunk.generation.read_to, takers)


def _piece(
    chunk: Chunk, span: Span, summary: Summary, target: str, tags: Tags, *, bounds: tuple[int, int], has_ids: bool
) -> Piece:
    """What stands within `bounds` of a worker's body."""
    return Piece(
        target=target,
        start=bounds[0],
        end=bounds[1],
        records=summary.records,
        source=chunk.generation.source,
        span=span,
        source_bytes=summary.source_bytes,
        tag=tags[0] if tags else "",
        read_at=chunk.read_at,
        odd_sizes=summary.odd_sizes,
        places=() if has_ids else summary.places,
    )


def _doubt(worker: OutputWorker, cursor: Cursor, position: int) -> None:
    """An earlier run may have sent what begins here."""
    if cursor.sent_before is not None and position < cursor.sent_before.end:
        worker.doubt(cursor.sent_before.since)


def _take(cursor: Cursor, summary: Summary, fates: Fates, *, records: int) -> Segment:
    known = {fate: size for fate, size in fates.items() if size}
    return cursor.take(summary.consumed, ahead=summary.ahead, state=summary.state, fates=known, records=records)
