"""Conservation: every byte has one fate, cursors move in order, and a crash re-reads what was not confirmed."""

import sys
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shipper.inputs.tail.generation import cursor_row, restore_cursor
from shipper.ledger import (
    DEAD,
    DELIVERED,
    SPOOLED,
    BesideSpan,
    Cursor,
    GivenUp,
    SeamSpan,
    Segment,
    covered,
    filtered,
    in_doubt,
    lost,
)
from shipper.record import Ranges, State

DROPPED = filtered("drop", "dropped")


@dataclass
class Taken:
    """A segment as the model sees it: the lines that it took, and those without a fate yet."""

    segment: Segment | None  # none of what was given up
    lines: list[int]
    open: list[int]
    fate: str
    fates: Counter[str] = field(default_factory=Counter)


class Ledger(RuleBasedStateMachine):
    """The model knows each line's place and fate; the cursor knows offsets and sums."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[int, int]] = []  # of each line: begin, end
        self.cursor = Cursor(1, "es")
        self.taken: list[Taken] = []  # unsettled segments
        self.settled: set[int] = set()
        self.fates: Counter[str] = Counter()
        self.seen: set[int] = set()  # lines that some segment took
        self.sent: set[int] = set()  # by this process or one before it: any of them may be at the destination
        self.told_lost: set[int] = set()
        self.committed = (cursor_row(self.cursor), set[int](), Counter[str]())

    @property
    def size(self) -> int:
        return self.places[-1][1] if self.places else 0

    @initialize(sizes=st.lists(st.integers(1, 9), max_size=12))
    def begin(self, sizes: list[int]) -> None:
        self.grow(sizes)

    @rule(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4))
    def grow(self, sizes: list[int]) -> None:
        for size in sizes:
            self.places.append((self.size, self.size + size))

    @rule(data=st.data(), fate=st.sampled_from((DELIVERED, SPOOLED)))
    def read(self, data: st.DataObject, fate: str) -> None:
        """Up to some line; of those behind it, some are read ahead."""
        first = next((i for i, (begin, _) in enumerate(self.places) if begin >= self.cursor.position), len(self.places))
        end = data.draw(st.integers(first, len(self.places)), label="end")
        ahead = {i for i in self.seen if i >= end}
        behind = range(end + 1, len(self.places))
        ahead |= {i for i in behind if data.draw(st.booleans(), label="ahead")} if len(behind) < 4 else set()
        while end in ahead:
            ahead.discard(end)
            end += 1
        new = sorted((set(range(first, end)) | ahead) - self.seen)
        kept = [i for i in new if data.draw(st.booleans(), label="kept")]
        filtered_bytes = sum(self.length(i) for i in new if i not in kept)
        position = self.places[end][0] if end < len(self.places) else self.size
        segment = self.cursor.take(
            position,
            ahead=self.ranges(ahead),
            state=State(b"%d" % position),
            fates={DROPPED: filtered_bytes} if filtered_bytes else {},
            records=len(kept),
        )
        taken = Taken(segment, new, list(kept), fate)
        taken.fates[DROPPED] += filtered_bytes
        self.seen |= set(new)
        self.taken.append(taken)
        self.sent |= set(kept)
        self.settle()

    @precondition(lambda self: any(taken.open for taken in self.taken))
    @rule(data=st.data(), is_rejected=st.booleans())
    def answer(self, data: st.DataObject, is_rejected: bool) -> None:
        """Any record of any segment, in any order."""
        taken = data.draw(st.sampled_from([taken for taken in self.taken if taken.open]))
        line = data.draw(st.sampled_from(taken.open))
        assert taken.segment is not None
        taken.open.remove(line)
        taken.fates[DEAD if is_rejected else taken.fate] += self.length(line)
        if is_rejected:
            taken.segment.answer(1, rejected_bytes=self.length(line), fate=taken.fate)
        else:
            taken.segment.answer(1, fate=taken.fate)
        self.settle()

    @rule()
    def give_up(self) -> None:
        unseen = [i for i in range(len(self.places)) if i not in self.seen]
        unheard = {i for i in unseen if self.places[i][1] <= self.cursor.unheard}
        gone = GivenUp(sum(map(self.length, set(unseen) - unheard)), sum(map(self.length, unheard)))
        assert self.cursor.give_up(self.size, "deleted") == gone
        self.seen |= set(unseen)
        self.told_lost |= set(unseen) - unheard
        fates = Counter({lost("deleted"): gone.lost, in_doubt("deleted"): gone.in_doubt})
        self.taken.append(Taken(None, unseen, [], DELIVERED, fates))
        self.settle()

    @rule(count=st.integers(1, 50))
    def upload(self, count: int) -> None:
        """Never more than was spooled, wherever it stands."""
        everywhere = [self.fates, *(taken.fates for taken in self.taken if not taken.open)]
        expected = min(count, sum(fates[SPOOLED] for fates in everywhere))
        assert self.cursor.move(SPOOLED, DELIVERED, count) == expected
        for fates in everywhere:
            part = min(expected, fates[SPOOLED])
            fates[SPOOLED] -= part
            fates[DELIVERED] += part
            expected -= part

    @rule()
    def commit(self) -> None:
        self.cursor.is_dirty = False
        self.committed = (cursor_row(self.cursor), set(self.settled), Counter(self.fates))

    @rule(is_found=st.booleans())
    def crash(self, is_found: bool) -> None:
        """`is_found`: its file, so that its size is known again."""
        row, self.settled, self.fates = self.committed[0], set(self.committed[1]), Counter(self.committed[2])
        self.cursor, self.taken, self.seen = restore_cursor(row), [], set(self.settled)
        unread = {i for i, (begin, end) in enumerate(self.places) if not self.is_behind(begin, end)}
        assert unread == set(range(len(self.places))) - self.settled
        assert self.cursor.state == self.cursor.acked_state
        self.told_lost &= self.settled
        self.cursor.expect(self.size if is_found else sys.maxsize, 0.0, is_unheard=True)

    @rule()
    def stop_and_start(self) -> None:
        """Nothing is left without an answer, and all of that is committed."""
        while any(taken.open for taken in self.taken):
            taken = next(taken for taken in self.taken if taken.open)
            assert taken.segment is not None
            taken.fates[taken.fate] += sum(map(self.length, taken.open))
            taken.segment.answer(len(taken.open), fate=taken.fate)
            taken.open.clear()
        self.settle()
        self.cursor = restore_cursor(cursor_row(self.cursor))
        self.commit()
        self.cursor.expect(self.size, 0.0, is_unheard=False)

    @rule()
    def rewind(self) -> None:
        """Whoever had it was cut off: what has no fate is read again. Late answers change nothing."""
        late = [taken for taken in self.taken if taken.open]
        self.cursor.rewind(0.0, is_unheard=True)
        self.taken, self.seen = [], set(self.settled)
        self.told_lost &= self.settled
        for taken in late:
            assert taken.segment is not None
            taken.segment.answer(len(taken.open))
        assert (self.cursor.position, self.cursor.ahead) == (self.cursor.acked, self.cursor.acked_ahead)
        assert self.cursor.state == self.cursor.acked_state

    def settle(self) -> None:
        while self.taken and not self.taken[0].open:
            done = self.taken.pop(0)
            self.settled |= set(done.lines)
            self.fates.update(done.fates)

    def length(self, line: int) -> int:
        return self.places[line][1] - self.places[line][0]

    def ranges(self, lines: set[int]) -> Ranges:
        found: list[tuple[int, int]] = []
        for begin, end in (self.places[i] for i in sorted(lines)):
            if found and found[-1][1] == begin:
                found[-1] = (found[-1][0], end)
            else:
                found.append((begin, end))
        return tuple(found)

    def is_behind(self, begin: int, end: int) -> bool:
        return end <= self.cursor.acked or covered(self.cursor.acked_ahead, begin, end) == end - begin

    @invariant()
    def every_byte_has_one_fate(self) -> None:
        self.cursor.check()
        assert self.cursor.fates == {fate: count for fate, count in self.fates.items() if count}
        assert self.cursor.pending(self.size) == self.size - sum(self.fates.values())
        assert sum(map(self.length, self.settled)) == sum(self.fates.values())

    @invariant()
    def nothing_that_was_sent_is_told_as_lost(self) -> None:
        assert not self.told_lost & self.sent

    @invariant()
    def durable_side_is_behind_and_never_goes_back(self) -> None:
        assert self.committed[0].acked <= self.cursor.acked <= self.cursor.position <= self.size

    @invariant()
    def what_differs_from_the_commit_is_dirty(self) -> None:
        assert self.cursor.is_dirty or cursor_row(self.cursor) == self.committed[0]


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_segments_settle_in_the_order_of_reading() -> None:
    cursor = Cursor(1, "es")
    first, second = cursor.take(10, records=1), cursor.take(30, records=2)
    second.answer(2)
    assert (cursor.acked, cursor.fates) == (0, {})
    first.answer(1)
    assert (cursor.acked, cursor.fates) == (30, {DELIVERED: 30})


def test_record_that_is_answered_twice_is_refused_and_changes_nothing() -> None:
    segment = Cursor(1, "es").take(10, records=2)
    with pytest.raises(ValueError, match="answered twice"):
        segment.answer(3)
    assert segment.open_records == 2


@pytest.mark.parametrize(("fates", "records"), [({}, 0), ({DELIVERED: 9}, 0), ({DELIVERED: 11}, 1)])
def test_bytes_without_a_fate_are_refused(fates: dict[str, int], records: int) -> None:
    cursor = Cursor(1, "es")
    with pytest.raises(ValueError, match="given no fate"):
        cursor.take(10, fates=fates, records=records)
    assert cursor.position == 0


def test_record_over_a_rotation_moves_both_files_with_its_one_answer() -> None:
    old, new = Cursor(1, "es"), Cursor(2, "es")
    span = SeamSpan(old.take(10, records=1), new.take(7, records=1), 10, 7)
    span.answer(1, rejected_bytes=17)
    assert (old.fates, new.fates) == ({DEAD: 10}, {DEAD: 7})
    assert (old.acked, new.acked) == (10, 7)


def test_records_beside_one_over_a_rotation_keep_both_files_until_all_are_answered() -> None:
    old, new = Cursor(1, "es"), Cursor(2, "es")
    segments = old.take(30, records=3), new.take(7, records=3)
    beside, over = BesideSpan(*segments), SeamSpan(*segments, 10, 7)
    assert beside.shares(20) == {1: 20}
    beside.answer(1, rejected_bytes=10)
    over.answer(1)
    assert (old.acked, new.acked) == (0, 0)
    beside.answer(1)
    assert (old.fates, new.fates) == ({DEAD: 10, DELIVERED: 20}, {DELIVERED: 7})
    assert (old.acked, new.acked) == (30, 7)


def test_what_was_read_beyond_the_end_of_a_lost_file_keeps_its_fate() -> None:
    cursor = Cursor(1, "es")
    cursor.take(0, ahead=((10, 20), (30, 40)), fates={DELIVERED: 20}, records=0)
    assert cursor.give_up(15, "deleted") == GivenUp(10, 0)
    cursor.check()
    assert (cursor.acked, cursor.acked_ahead) == (15, ((15, 20), (30, 40)))


def test_check_tells_of_a_cursor_that_does_not_add_up() -> None:
    with pytest.raises(AssertionError, match="es in generation 1: 5 bytes acked"):
        Cursor(1, "es", acked=5).check()
    with pytest.raises(AssertionError):
        Cursor(1, "es", acked=5, fates={DELIVERED: 6, SPOOLED: -1}).check()


def test_fate_changes_also_of_what_waits_for_an_earlier_segment() -> None:
    cursor = Cursor(1, "archive")
    first, second = cursor.take(10, records=1), cursor.take(30, records=2)
    second.answer(2, fate=SPOOLED)
    assert cursor.move(SPOOLED, DELIVERED, 25) == 20
    first.answer(1, fate=SPOOLED)
    assert cursor.fates == {SPOOLED: 10, DELIVERED: 20}
    cursor.check()


def test_what_an_earlier_run_may_have_delivered_is_in_doubt_and_the_rest_is_lost() -> None:
    cursor = Cursor(1, "es")
    cursor.take(10, ahead=((20, 30),), fates={DELIVERED: 20}, records=0)
    cursor.expect(60, 0.0, is_unheard=True)
    assert cursor.give_up(100, "deleted") == GivenUp(40, 40)
    cursor.check()
    assert cursor.fates == {DELIVERED: 20, in_doubt("deleted"): 40, lost("deleted"): 40}
    assert cursor.waiting(100) == 0


def test_what_an_output_would_not_have_taken_is_neither_lost_nor_in_doubt() -> None:
    cursor = Cursor(1, "es")
    cursor.expect(60, 0.0, is_unheard=True)
    assert cursor.give_up(100, "deleted", instead=DROPPED) == GivenUp(0, 0)
    assert cursor.fates == {DROPPED: 100}


def test_who_is_cut_off_had_been_read_as_far_as_what_was_read_ahead() -> None:
    cursor = Cursor(1, "es")
    cursor.take(10, ahead=((20, 30),), records=2)
    cursor.rewind(7.0, is_unheard=True)
    assert (cursor.position, cursor.unheard, cursor.sent_before) == (0, 30, (30, 7.0))


def test_what_a_run_before_may_have_sent_stays_in_doubt_when_less_of_it_was_read_again() -> None:
    cursor = Cursor(1, "es")
    cursor.expect(60, 5.0, is_unheard=True)
    cursor.take(10, records=2)
    cursor.rewind(7.0, is_unheard=True)
    assert (cursor.unheard, cursor.sent_before) == (60, (60, 5.0))


def test_what_was_given_up_is_pending_until_all_before_it_is_answered_but_nobody_waits_for_it() -> None:
    cursor = Cursor(1, "es")
    before = cursor.take(40, records=1)
    cursor.give_up(100, "hold_deleted")
    assert (cursor.pending(100), cursor.waiting(100)) == (100, 40)
    before.answer(1)
    assert (cursor.pending(100), cursor.waiting(100)) == (0, 0)
    assert cursor.fates == {DELIVERED: 40, lost("hold_deleted"): 60}
