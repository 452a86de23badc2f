"""Sends archived records again, each once: what is there already, by its id, is left as it is.

A batch is first asked for by its ids, in every index that stands behind its target, however often that has rolled over;
only what is missing is sent. So nothing is doubled, over live data or over an earlier replay, and nothing is guessed:
an output that cannot be asked is sent nothing.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import IO

from shipper.config.model import Config
from shipper.delivery import Piece
from shipper.document import Head, head_of, time_ns
from shipper.errors import ShipperError
from shipper.ledger import DELIVERED
from shipper.outputs.base import Output
from shipper.outputs.config import OutputConfig
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.s3.bucket import Listed
from shipper.parts import make_output
from shipper.record import Ranges, Source
from shipper.replay.keys import KeyPattern
from shipper.replay.objects import Damaged, NotOurs, check, pages
from shipper.replay.place import Places, Unplaceable
from shipper.replay.progress import Progress
from shipper.replay.sender import PATIENCE_S, NothingTaken, Sender
from shipper.replay.source import ObjectSource, Unreadable, open_source

EVER = 1.0  # epoch seconds: no index was made before
LATE_S = 3600.0  # by so much a record's clock may be ahead of the archive's
NOTE_EVERY_S = 1.0
MOST_NAMED = 1000  # objects that are not as they should be; the others are counted

_ARCHIVE = Source("", "the archive")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which records: `since` <= their time < `until`, in epoch seconds; `make_ids`: also those archived without one."""

    since: float | None = None
    until: float | None = None
    namespace: str | None = None
    make_ids: bool = False

    def may_be_in(self, listed: Listed, patterns: Iterable[KeyPattern]) -> bool:
        """What was archived long before `since` holds nothing younger; and what all patterns of keys exclude."""
        if self.since is not None and listed.modified < self.since - LATE_S:
            return False
        wanted = {"since": self.since, "until": self.until}
        fits = [p.may_hold(listed.key, **wanted, namespace=self.namespace) for p in patterns]
        return any(fits) or not fits

    def has(self, time_: bytes) -> bool:
        if self.since is None and self.until is None:
            return True
        at = time_ns(time_) / 1e9
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


@dataclass(slots=True)
class Tally:
    """What became of everything, so far."""

    objects: int = 0  # in all
    bytes: int = 0  # of these, as they are archived
    done_objects: int = 0  # of these: read, passed over or not as they should be
    done_bytes: int = 0
    done_before: int = 0  # of the done objects: by an earlier run
    records: int = 0
    not_chosen: int = 0
    sent: int = 0  # and taken: they were missing
    present: int = 0  # there already
    refused: int = 0
    without_id: int = 0
    unplaceable: int = 0
    problems: dict[str, str] = field(default_factory=dict)  # object -> what is wrong with it
    problem_objects: int = 0

    def note_problem(self, key: str, sentence: str) -> None:
        self.problem_objects += 1
        if len(self.problems) < MOST_NAMED:
            self.problems[key] = sentence

    @property
    def is_complete(self) -> bool:
        return not (self.problem_objects or self.without_id or self.unplaceable)


async def replay_archive(
    config: Config,
    origin: str,
    *,
    to: str,
    choice: Choice,
    tally: Tally,
    dry_run: bool = False,
    report: Callable[[Tally], None],
    patience_s: float = PATIENCE_S,
) -> None:
    """Counts into `tally`, and calls `report` with it often.

    Raises ShipperError when it cannot be done, NothingTaken among them; what was sent until then stays sent. A run that
    was stopped is noted in the state's folder; the next one of the same arguments goes on there.
    """
    own = next((o for o in config.outputs if o.name == to), None)
    if own is None:
        names = ", ".join(o.name for o in config.outputs)
        raise ShipperError(f"there is no output {to} in this configuration; there are {names}")
    output = _output(own, dry_run=dry_run)
    places = Places(config, output)
    sender = Sender(own, output, state_dir=config.service.state_dir, patience_s=patience_s)
    source = await open_source(origin, config)
    progress = None if dry_run else Progress.of(config.service.state_dir, origin, output.template, own.name, choice)
    replay = _Replay(source, sender, places, tally, choice=choice, progress=progress, report=report)
    try:
        await replay.count(origin)
        async with sender.working():
            await replay.run()
    finally:
        await source.close()
        replay.note_progress(at_once=True)
    if progress is not None:
        progress.remove()


def _output(config: OutputConfig, *, dry_run: bool) -> Output:
    if not isinstance(config, ElasticsearchConfig):
        if dry_run:
            raise ShipperError(f"output {config.name} cannot be asked what is there: --dry-run needs elasticsearch")
        return make_output(config)
    if config.ids == "none":
        raise ShipperError(
            f"output {config.name} writes without ids, so that nobody can know what is there already: "
            "set `ids: offset` for a replay"
        )
    from shipper.outputs.elasticsearch.output import ElasticsearchOutput
    from shipper.outputs.elasticsearch.rehearsal import Rehearsal

    return (Rehearsal if dry_run else ElasticsearchOutput)(config, must_know=True)


@dataclass(slots=True)
class _Object:
    """Hears what became of an object's records; shipper.delivery.Span."""

    listed: Listed
    open_records: int = 0
    is_read: bool = False
    is_whole: bool = True  # nothing of it was refused or left out
    generation: int = 0

    @property
    def is_done(self) -> bool:
        return self.is_read and not self.open_records

    def shares(self, source_bytes: int) -> Mapping[int, int]:  # noqa: ARG002  nobody's file
        return {}

    def ranges(self) -> Mapping[int, Ranges]:
        return {}

    def answer(self, records: int, rejected_bytes: int = 0, fate: str = DELIVERED) -> None:  # noqa: ARG002
        self.open_records -= records
        self.is_whole = self.is_whole and not rejected_bytes


class _Replay:
    """One run over all objects, in the order of their keys. Reading waits for the output, so memory is bounded."""

    def __init__(
        self,
        source: ObjectSource,
        sender: Sender,
        places: Places,
        tally: Tally,
        *,
        choice: Choice,
        progress: Progress | None,
        report: Callable[[Tally], None],
    ) -> None:
        self.tally = tally
        self._source, self._sender, self._places, self._choice = source, sender, places, choice
        self._progress, self._report = progress, report
        self._patterns = [KeyPattern(output.key) for output in source.outputs]
        self._lists = tuple(o.manifest.prefix for o in source.outputs if o.manifest is not None)
        self._objects: deque[_Object] = deque()  # begun and not noted, in order
        self._noted_at = 0.0
        self._frames: dict[str, tuple[bytes | None, bytes]] = {}

    async def count(self, origin: str) -> None:
        """How much there is. Raises ShipperError when there is nothing."""
        async for listed in self._source.objects():
            if not self._is_beside(listed.key):
                self.tally.objects += 1
                self.tally.bytes += listed.size
        if not self.tally.objects:
            raise ShipperError(f"there are no archived objects at {origin}")

    async def run(self) -> None:
        async for listed in self._source.objects():
            if self._is_beside(listed.key):
                continue
            if self._progress is not None and self._progress.is_done(listed):
                self.tally.done_before += 1
            elif self._choice.may_be_in(listed, self._patterns):
                await self._replay(listed)
            self.tally.done_objects += 1
            self.tally.done_bytes += listed.size
            self._tell()
        if not await self._sender.is_answered():
            raise self._nothing_taken()
        self._tell()

    async def _replay(self, listed: Listed) -> None:
        begun = _Object(listed)
        self._objects.append(begun)
        try:
            with await self._source.open(listed) as file:
                await asyncio.to_thread(check, file)
                await self._send_all(file, begun)
        except (NotOurs, Damaged, Unreadable) as exc:
            begun.is_whole = False
            self.tally.note_problem(listed.key, str(exc))
        except OSError as exc:
            begun.is_whole = False
            self.tally.note_problem(listed.key, f"it cannot be read: {exc.strerror or exc}")
        begun.is_read = True

    async def _send_all(self, file: IO[bytes], begun: _Object) -> None:
        iterator, number = pages(file), 0
        while page := await asyncio.to_thread(next, iterator, None):
            if not await self._sender.has_room():
                raise self._nothing_taken()
            self._send(self._by_target(page, begun, number), begun)
            number += len(page)
            self._tell()

    def _by_target(self, page: Sequence[bytes], begun: _Object, number: int) -> dict[str, list[bytes]]:
        """The chosen documents, as the output takes them. `number`: of the page's first record in its object."""
        found: dict[str, list[bytes]] = {}
        self.tally.records += len(page)
        for i, document in enumerate(page, number):
            try:
                head = _known_head(document)
                if not self._is_chosen(document, head):
                    self.tally.not_chosen += 1
                elif (identity := self._id(document, head, begun.listed.key, i)) is None:
                    self.tally.without_id += 1
                    begun.is_whole = False
                else:
                    target = self._places.target(document, head)
                    found.setdefault(target, []).append(self._frame(target, identity, head.members))
            except Unplaceable as exc:
                self.tally.unplaceable += 1
                if begun.is_whole:
                    self.tally.problems.setdefault(begun.listed.key, f"record {i + 1}: {exc}")
                begun.is_whole = False
        return found

    def _is_chosen(self, document: bytes, head: Head) -> bool:
        if not self._choice.has(head.time):
            return False
        wanted = self._choice.namespace
        return wanted is None or self._places.namespace(document, head) == wanted

    def _id(self, document: bytes, head: Head, key: str, number: int) -> bytes | None:
        """A made one is the same at every replay of the object."""
        if head.id is not None:
            return head.id
        if not self._choice.make_ids:
            return None
        return blake2b(f"{key}\0{number}\0".encode() + document, digest_size=16).hexdigest().encode()

    def _frame(self, target: str, identity: bytes, members: bytes) -> bytes:
        if target not in self._frames:
            self._frames = {target: self._sender.output.frame(target)}
        head, opening = self._frames[target]
        return (opening if head is None else head + identity + opening) + members + b"\n"

    def _send(self, by_target: Mapping[str, Iterable[bytes]], begun: _Object) -> None:
        worker = self._sender.worker
        worker.doubt(EVER)
        body, pieces = worker.body, []
        for target, documents in by_target.items():
            start, count = len(body), len(documents := list(documents))
            body += b"".join(documents)
            begun.open_records += count
            places = ((0, 0, 1),) * count
            pieces.append(
                Piece(target, start, len(body), count, _ARCHIVE, begun, count, read_at=time.monotonic(), places=places)
            )
        worker.add(pieces)

    # -- what became of it --------------------------------------------------------------------------------------

    def _tell(self) -> None:
        fates = Counter[str]()
        for metric in self._sender.metrics.output_records.collect():
            fates.update({s.labels["fate"]: int(s.value) for s in metric.samples if s.name.endswith("_total")})
        self.tally.sent, self.tally.present = fates["delivered"], fates["duplicate"]
        self.tally.refused = fates["rejected"]
        self.note_progress()
        self._report(self.tally)

    def note_progress(self, *, at_once: bool = False) -> None:
        while self._objects and self._objects[0].is_done:
            done = self._objects.popleft()
            if self._progress is not None:
                self._progress.note(done.listed.key, is_whole=done.is_whole)
        if self._progress is not None and (at_once or time.monotonic() - self._noted_at > NOTE_EVERY_S):
            self._noted_at = time.monotonic()
            self._progress.save()

    def _is_beside(self, key: str) -> bool:
        """What shipper, or a person, puts beside the objects of an archive."""
        folder, _, name = f"/{key}".rpartition("/")
        is_list = key.startswith(self._lists) or "/manifest/" in f"{folder}/"
        return (not name and bool(key)) or name.startswith(".shipper-check-") or (is_list and name.endswith(".jsonl"))

    def _nothing_taken(self) -> NothingTaken:
        self._tell()
        return NothingTaken(
            f"{self._sender.silence()}; {self.tally.sent} records were sent, and {self.tally.present} were there "
            "already. The same command goes on from here"
        )


def _known_head(document: bytes) -> Head:
    head = head_of(document)
    if head is None:
        raise Unplaceable("it is no archived document")
    return head
