"""The catalogue of log file generations: what is on disk, held against what is known.

State changes happen in plain methods on the event loop; files are opened, and gzipped ones measured, in a thread before
the decision.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

import msgspec

from shipper.checkpoint import GenerationRow
from shipper.document import rfc3339
from shipper.inputs.tail.config import TailConfig
from shipper.inputs.tail.discovery import Family, Found
from shipper.inputs.tail.ends import look_at_ends
from shipper.inputs.tail.files import Measurement, OpenFile
from shipper.inputs.tail.generation import Generation, Known
from shipper.inputs.tail.head import Asked, Opened, close_both, format_of, is_known_yet, name_for_ids, open_all
from shipper.inputs.tail.identity import FINGERPRINT_BYTES, NO_FINGERPRINT, Fingerprint
from shipper.inputs.tail.match import Matched, match, unsure
from shipper.inputs.tail.measuring import Measuring
from shipper.inputs.tail.paths import folder_of, pod_source
from shipper.inputs.tail.problems import Problems
from shipper.metrics import Metrics
from shipper.record import Source

log = logging.getLogger(__name__)

NEAR_RESTARTS = 5  # the kubelet removes logs of dead containers but for the last: larger holes are not to be met


class Listener(Protocol):
    """The pipeline, as an input sees it."""

    def new_id(self) -> int:
        """For a generation."""

    def adopt(self, generation: Generation, *, may_skip: bool) -> None:
        """A generation that was not known before; gives it its cursors. `may_skip`: `read_from: end` applies."""

    def changed(self, generation: Generation) -> None:
        """It may have something to read now: it has grown, or it is final."""

    def lose(self, generation: Generation, reason: str, *, has_gap: bool) -> None:
        """Its unread bytes are nowhere any more; `has_gap`: and nobody knows whether there were more."""


class Catalog:
    """All generations of one input, by live path, oldest first."""

    def __init__(
        self,
        config: TailConfig,
        listener: Listener,
        metrics: Metrics,
        *,
        node: str,
        open_limit: int,
        may_read: Callable[[str], bool],
    ) -> None:
        """`may_read`: whether a file that stands there may be read, links or not."""
        self.families: dict[str, list[Generation]] = {}
        self.by_path: dict[str, Generation] = {}  # where links lead, too
        self.problems = Problems(config.name, metrics)
        self.newest_id = 0  # of the generation that was found last
        self.is_once = False  # `--once`: nobody waits for a first line to be completed
        self._config, self._listener, self._node = config, listener, node
        self._open_limit, self._may_read = open_limit, may_read
        self._open: dict[int, Generation] = {}  # with an open file, least recently used first
        self._last: dict[str, tuple[Found, ...]] = {}  # what a family was when it was reconciled
        self._with_news: list[Generation] = []  # of the last look at many
        self._doubtful: set[str] = set()  # folders that a scan should look at soon
        self._now, self._seen_at = b"", 0.0  # when the last files were opened: those that are found together share it
        self.measuring = Measuring(self.problems, changed=listener.changed, finish=self.finish)

    def __repr__(self) -> str:
        return f"<Catalog: {len(self.families)} families, {len(self._open)} open files>"

    def revive(self, row: GenerationRow) -> Generation:
        """A generation that the checkpoint knows; its files are looked for by the first scan."""
        generation = Generation.from_row(row, "")
        self.join(generation)
        return generation

    def join(self, generation: Generation, measurement: Measurement | None = None) -> None:
        """A generation that is known already, but was not this input's; the next scan looks for its files."""
        if generation.source.input != self._config.name:
            generation.source = msgspec.structs.replace(generation.source, input=self._config.name)
            generation.is_dirty = True
        generation.tag = self._tag(generation.source)
        if generation.file is not None:
            self._open[generation.id] = generation
        if measurement is not None:
            self.measuring.add(generation, measurement)
        self.newest_id = max(self.newest_id, generation.id)
        self._join_family(generation.source.path, generation)
        self.families[generation.source.path].sort(key=lambda g: g.id)
        self._last.pop(generation.source.path, None)

    def follow(self, config: TailConfig, *, node: str, may_read: Callable[[str], bool]) -> None:
        """Another configuration holds from now on; the next scan looks at everything again."""
        self._config, self._node, self._may_read = config, node, may_read
        self._last.clear()
        for generation in self.generations():
            generation.tag = self._tag(generation.source)

    def generations(self) -> Iterable[Generation]:
        return (g for family in self.families.values() for g in family)

    def open_files(self) -> int:
        return len(self._open)

    def take_doubtful(self) -> set[str]:
        """Folders where something happened that only a scan can explain."""
        doubtful, self._doubtful = self._doubtful, set()
        return doubtful

    # -- what a scan found --------------------------------------------------------------------------------------------

    def is_news(self, family: Family) -> bool:
        """Whether `reconcile` has anything to do."""
        return self._last.get(family.live_path) != tuple(family.files)

    def has_only_grown(self, family: Family) -> bool:
        """Whether files that are open are all that differs, and these in nothing but their bytes: then they are looked
        at, and there is nothing to decide. (`reconcile` would come to the same.)
        """
        before = self._last.get(family.live_path)
        if before is None or len(before) != len(family.files):
            return False
        grown: list[tuple[Generation, Found]] = []
        for old, new in zip(before, family.files, strict=True):
            generation = self.by_path.get(new.path)
            if generation is None or generation.seen != old:
                return False
            if old != new:
                if not _is_same_but_longer(generation, new):
                    return False
                grown.append((generation, new))
        self._last[family.live_path] = tuple(family.files)
        for generation, found in grown:
            generation.seen = found
            self.look(generation)
        return True

    def missing(self, below: str, found: Mapping[str, Family]) -> list[str]:
        """Live paths under `below` (all: "") with generations that have, or had, a file, but none among `found`."""
        return [
            path
            for path, family in self.families.items()
            if path not in found and path.startswith(f"{below}/") and not all(g.is_deleted for g in family)
        ]

    def begin_scan(self, below: str) -> None:
        """What is found from now on (under `below`; all: "") is held against what is known now."""
        for path, family in self.families.items():
            if path.startswith(f"{below}/"):
                for generation in family:
                    generation.at_scan = Known(generation.size, generation.fingerprint)

    async def reconcile(self, families: Iterable[Family], *, may_skip: bool) -> None:
        """Holds the files of each of these live paths against its generations, one path after the other.

        What has to be opened for that is opened in one go, since a thread for each costs more than what it does there.
        """
        asked = [self._ask(family) for family in families]
        measures_all = self.is_once or (may_skip and self._config.read_from == "end")
        look = partial(open_all, asked, measures_all=measures_all, may_read=self._may_read)
        is_open = any(each.questions for each in asked)
        opened = await asyncio.to_thread(look) if is_open else [Opened((), ())] * len(asked)
        self._now, self._seen_at = rfc3339(time.time()), time.monotonic()
        try:
            for each, found in zip(asked, opened, strict=True):
                self._reconcile(each, found, may_skip=may_skip)
        finally:
            for found in opened:
                found.close()

    def _ask(self, family: Family) -> Asked:
        generations = self.families.get(family.live_path, [])
        return Asked(family, generations, unsure(generations, family.files))

    def _reconcile(self, asked: Asked, opened: Opened, *, may_skip: bool) -> None:
        family = asked.family
        for path, sentence in opened.problems.items():
            self.problems.note(path, sentence)
        matched = match(asked.generations, family.files, opened.heads)
        if matched.is_complete:
            self._last[family.live_path] = tuple(family.files)
        self._apply(family, matched, opened, may_skip=may_skip)
        if not self.families.get(family.live_path):
            self._last.pop(family.live_path, None)
            self.families.pop(family.live_path, None)

    def _apply(self, family: Family, matched: Matched, opened: Opened, *, may_skip: bool) -> None:
        for generation, found in matched.known:
            self._place(generation, found, opened)
        is_decided = [self._is_overwritten(g) for g in matched.truncated if matched.is_complete]
        for generation in matched.gone:
            if matched.is_complete or (generation.file is not None and not generation.file.links()):
                self._gone(generation)
        moved = [_rank(found) for found in matched.left if found.path not in opened.problems]
        if moved:
            self._doubtful.add(folder_of(family.live_path))  # the next scan knows where they are
        for found in matched.new:
            if all(is_decided) and (not moved or _rank(found) < min(moved)):  # what is older comes first
                self._add(found, family.live_path, opened, may_skip=may_skip)
        self._order(family)

    def _place(self, generation: Generation, found: Found, opened: Opened) -> None:
        """It is here now; where its file had to be opened for that, it may be kept."""
        self._put(generation, found)
        if generation.gone_at is not None:
            generation.gone_at, generation.is_dirty = None, True
        generation.is_deleted = generation.is_doubtful = False
        head = opened.heads.get(found.path)
        if head is not None and not _is_still_good(generation):
            self._close(generation)
            if head.size > generation.size:
                generation.size, generation.is_dirty = head.size, True
            if not (generation.is_done() and generation.is_final):  # what is in flight may have to be read again
                self._hold(generation, opened.take(found.path))
        if found.name.is_gzip and (head is None or generation.file is not None):
            self.finish(generation)
        if generation.file is not None:
            self.look(generation)

    def _put(self, generation: Generation, found: Found) -> None:
        self._unlist(generation)
        place = (found.path, found.name.is_gzip, found.device, found.inode)
        if place != (generation.path, generation.is_gzip, generation.device, generation.inode):
            generation.path, generation.is_gzip, generation.device, generation.inode = place
            generation.is_dirty = True
        generation.seen = found
        self.by_path[found.path] = generation
        if found.target:
            self.by_path[found.target] = generation

    def _unlist(self, generation: Generation) -> None:
        if generation.seen is not None:
            for path in (generation.seen.path, generation.seen.target):
                if self.by_path.get(path) is generation:
                    del self.by_path[path]

    def _add(self, found: Found, live_path: str, opened: Opened, *, may_skip: bool) -> None:
        head = opened.heads[found.path]
        source = pod_source(self._config.name, live_path)
        is_waiting = found.name.is_live and not self.is_once and not self._has_successor(source)
        if not head.data or (is_waiting and not is_known_yet(source, head.data)):
            return
        format_ = format_of(source, head.data, self._config.format)
        base, is_random = name_for_ids(source, format_, head.data)
        generation = Generation(
            id=self._listener.new_id(),
            source=source,
            path=found.path,
            tag=self._tag(source),
            fingerprint=Fingerprint.of(head.data),
            id_base=base,
            format=format_,
            first_seen=self._now,
            size=head.size,
            is_final=found.name.is_gzip and opened.is_measured(found.path),
            must_commit_first=is_random,
            seen_at=self._seen_at,
        )
        self.newest_id = generation.id
        self._join_family(live_path, generation)
        self._put(generation, found)
        self._hold(generation, opened.take(found.path))
        self._listener.adopt(generation, may_skip=may_skip)

    def _join_family(self, live_path: str, generation: Generation) -> None:
        family = self.families.get(live_path)
        if family is None:
            self.families[live_path] = [generation]  # mostly it stays alone: a list that has grown has room for more
        else:
            family.append(generation)

    def has_newer(self, live_path: str, than: int) -> bool:
        """Whether a generation of it was found after that one."""
        return any(generation.id > than for generation in self.families.get(live_path, ()))

    def missed(self, family: Family) -> None:
        """A file of it was written to, and is gone, and nobody has seen it: a generation of which nothing is known."""
        source = pod_source(self._config.name, family.live_path)
        generation = Generation(
            id=self._listener.new_id(),
            source=source,
            path=source.path,
            tag=self._tag(source),
            first_seen=rfc3339(time.time()),
        )
        self.newest_id = generation.id
        self._join_family(source.path, generation)
        self._listener.adopt(generation, may_skip=False)
        self._end(generation, "unseen", has_gap=True)
        self._order(family)

    def _tag(self, source: Source) -> str:
        return self._config.tag.render(
            lambda kind, _: self._node if kind == "node" else source.value(kind), style="tag"
        )

    def _order(self, family: Family) -> None:
        """Oldest first; tells which are final because of newer ones.

        A container's are in the order in which they were found, since the clock that names them may be set back; but
        what was found late, such as one that could not be read at first, is older than the live file.
        """
        generations = self.families.get(family.live_path, [])
        source = generations[0].source if generations else pod_source(self._config.name, family.live_path)
        if source.is_container:
            generations.sort(key=lambda g: (g.seen is not None and g.seen.name.is_live, g.id))
        else:
            place = {f.path: i for i, f in enumerate(family.files)}
            generations.sort(key=lambda g: (place.get(g.path, -1), g.id))
        before = self._before(source)  # also for a file that is still empty
        is_followed = bool(family.files) and not generations
        if before is not None and is_followed != before.is_followed:
            before.is_followed, before.is_dirty = is_followed, True
        if before is not None and is_followed:
            before.has_seen_follower = True
        for i, generation in enumerate(generations):
            generation.previous = generations[i - 1] if i else before
            generation.following = generations[i + 1] if i + 1 < len(generations) else None
            if len(generations) - i > 2 or self._has_successor(generation.source):
                self._finish_seen(generation)

    def _before(self, source: Source) -> Generation | None:
        """The last generation of the container's previous restart; ends all that it has of that."""
        for earlier in self._restarts(source, -1):
            for generation in earlier:
                self._finish_seen(generation)
            return earlier[-1]
        return None

    def _finish_seen(self, generation: Generation) -> None:
        """One that was not found yet may have grown while nobody watched: if it is gone, that is a gap."""
        if generation.seen is None or generation.is_final:
            return
        if generation.file is not None:
            self.look(generation)  # the scan may have come to its successor before it came to its last words
        self.finish(generation)

    def _has_successor(self, source: Source) -> bool:
        return bool(self._restarts(source, 1))

    def _restarts(self, source: Source, step: int) -> list[list[Generation]]:
        """What is known of the container's next (1) or previous (-1) restarts, nearest first."""
        if source.restart is None:
            return []
        folder, first, found = folder_of(source.path), source.restart, list[list[Generation]]()
        for number in range(first + step, max(-1, first + step * (NEAR_RESTARTS + 1)), step):  # `0.log` is the first
            if family := self.families.get(f"{folder}/{number}.log"):
                found.append(family)
        return found

    # -- one generation -----------------------------------------------------------------------------------------------

    def look_at(self, generations: Iterable[Generation]) -> None:
        """`look` at each of many, sooner where all that has happened to them is that they have grown."""
        for generation in self._with_news:
            generation.news = None
        self._with_news.clear()
        found, others = ((), generations) if self._is_crowded() else look_at_ends(generations)
        with_news, changed = self._with_news, self._listener.changed
        for generation, end in found:
            if end is None:
                self.look(generation)
                continue
            size, news = end
            if size > generation.size:
                if news is not None:
                    generation.news = generation.size, news
                    with_news.append(generation)
                generation.size, generation.has_grown = size, True
                changed(generation)
            elif generation.has_unread():
                changed(generation)
        for generation in others:
            self.look(generation)

    def _is_crowded(self) -> bool:
        """Whether it may be asked soon which open file was used last."""
        return 2 * len(self._open) > self._open_limit

    def look(self, generation: Generation) -> None:
        """Asks for its size, and tells the pipeline when there is something to read."""
        file = generation.file
        if file is None:
            self._doubt(generation)  # a scan opens it
            return
        if self._is_crowded():
            self._open[generation.id] = self._open.pop(generation.id)
        if not file.is_gzip:
            try:
                is_ours = self._measure(generation, file)
            except OSError as exc:
                self.problems.note(generation.path, exc.strerror or str(exc))
                return
            if not is_ours:
                self._close(generation)
                generation.is_doubtful = True
                self._doubt(generation)
                return
        if generation.has_unread():
            self._listener.changed(generation)

    def _measure(self, generation: Generation, file: OpenFile) -> bool:
        """-> False when it was overwritten in place: it is shorter now, or begins with other bytes."""
        size = file.size()
        if size == generation.size:
            return True
        head = file.read(0, FINGERPRINT_BYTES)
        if size < generation.size or not generation.begins_like(head):
            return False
        generation.size, generation.has_grown = size, True
        if generation.fingerprint.length < FINGERPRINT_BYTES:
            generation.fingerprint, generation.is_dirty = Fingerprint.of(head), True
        return True

    def _doubt(self, generation: Generation) -> None:
        self._last.pop(generation.source.path, None)
        self._doubtful.add(folder_of(generation.source.path))

    def _hold(self, generation: Generation, file: OpenFile) -> None:
        """Keeps its file open, as far as the number of open files allows; else a later scan opens it again."""
        if len(self._open) >= self._open_limit:
            self._close_idle()
        if len(self._open) >= self._open_limit:
            close_both(file, file.measurement)
            self._last.pop(generation.source.path, None)
            self.problems.note(self._config.path[0], f"more than {self._open_limit} log files would be open; some wait")
            return
        generation.file = file
        self._open[generation.id] = generation
        self.measuring.end(generation)
        if file.measurement is not None and not file.measurement.is_over:
            self.measuring.add(generation, file.measurement)

    def _close_idle(self) -> None:
        """Closes the least recently used files that are on disk still and read to their end."""
        for generation in list(self._open.values()):
            if len(self._open) <= self._open_limit * 9 // 10:
                return
            if not generation.has_unread() and not generation.is_deleted and generation not in self.measuring:
                self._close(generation)

    def release(self, generation: Generation) -> None:
        """Its file is not needed now. (A deleted one that has grown is: nobody could open it again.)"""
        file = generation.file
        if file is not None and generation.is_deleted and not file.is_gzip and file.size() > generation.size:
            self.look(generation)
        else:
            self._close(generation)

    def _close(self, generation: Generation) -> None:
        generation.close()
        self._open.pop(generation.id, None)

    def finish(self, generation: Generation) -> None:
        """Nothing will be appended any more. (Of a file that is measured still, whoever measures it says so.)"""
        if not generation.is_final and generation not in self.measuring:
            generation.is_final = generation.is_dirty = True
            if generation.format is None:
                generation.format = "text"
            self._listener.changed(generation)

    def _is_overwritten(self, generation: Generation) -> bool:
        """Copytruncate without a copy, or another file under its name and inode. False where the next scan decides.

        What was renamed, packed and removed while a folder was listed has given its inode to another, and is not lost.
        """
        if generation.file is None and not generation.is_doubtful and self._is_missed_first(generation):
            self._doubt(generation)
            return False
        self._overwritten(generation)
        return True

    def _overwritten(self, generation: Generation) -> None:
        is_watched = generation.file is not None or generation.is_doubtful
        has_gap = not is_watched and not generation.is_final
        self._unlist(generation)
        self._close(generation)
        generation.seen, generation.fingerprint = None, NO_FINGERPRINT  # no file will ever be its own again
        self._end(generation, "truncated", has_gap=has_gap)

    def _is_missed_first(self, generation: Generation) -> bool:
        """Notes that a scan has not found it. -> whether none has before: a listing can miss what moves meanwhile."""
        if generation.gone_at is not None:
            return False
        generation.gone_at, generation.is_dirty = time.time(), True
        generation.is_followed &= generation.seen is None  # else the kernel tells of what came
        return True

    def _gone(self, generation: Generation) -> None:
        """A scan has not found a file of it."""
        if generation.is_deleted:
            return
        self._unlist(generation)
        file, is_first = generation.file, self._is_missed_first(generation)
        if is_first and (file is None or file.links()):
            self._doubt(generation)  # the next scan decides
        elif file is None:
            missed_follower = generation.is_followed and not generation.has_seen_follower
            self._end(generation, "deleted", has_gap=missed_follower or not generation.is_final)
        else:
            generation.is_deleted = True
            if not file.is_gzip and self._measure(generation, file) and generation.has_unread():
                self._listener.changed(generation)
            self.finish(generation)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self, generation: Generation, reason: str, *, has_gap: bool) -> None:
        self.measuring.end(generation)
        generation.gone_at = generation.gone_at or time.time()
        generation.is_final = generation.is_deleted = generation.is_dirty = True
        generation.is_followed = False  # what there is to say of it is said once
        if generation.has_unread() or (has_gap and generation.cursors):
            self._listener.lose(generation, reason, has_gap=has_gap)

    def forget(self, generation: Generation) -> None:
        """Its history is over, or nobody is to read it."""
        self._close(generation)
        self.measuring.end(generation)
        for other in self.families.get(generation.source.path, ()):
            if other.previous is generation:
                other.previous = None
            if other.following is generation:
                other.following = None
        generation.previous = generation.following = None  # else a chain of them would stay
        self.part_with(generation)

    def part_with(self, generation: Generation) -> Measurement | None:
        """It is another input's from now on, with all of its family. Its file stays open, since whom it joins may be
        unable to open it again; and it knows what was written before and after it, since no scan would tell of files
        that are deleted.
        """
        self._open.pop(generation.id, None)
        measurement = self.measuring.take(generation)
        self._unlist(generation)
        generation.seen = None
        family = self.families.get(generation.source.path, [])
        if generation in family:
            family.remove(generation)
        if not family:
            self.families.pop(generation.source.path, None)
            self._last.pop(generation.source.path, None)
        return measurement


def _rank(found: Found) -> tuple[tuple[int, int, str], str]:
    """Among the files of its family."""
    return found.name.order, found.path


def _is_same_but_longer(generation: Generation, found: Found) -> bool:
    """Whether what is open is the very file that was found, where a scan has seen it last."""
    file, seen = generation.file, generation.seen
    return (
        file is not None
        and seen is not None
        and not (file.is_gzip or generation.is_doubtful or generation.is_deleted)
        and (found.path, found.name, found.device, found.inode, found.target)
        == (seen.path, seen.name, file.device, file.inode, seen.target)
        and (seen.device, seen.inode) == (file.device, file.inode)
        and found.size >= generation.known.size
    )


def _is_still_good(generation: Generation) -> bool:
    """Whether to read on in the file that is open, though another one on disk has the same bytes."""
    file = generation.file
    return file is not None and not file.is_gzip and file.size() >= generation.size
