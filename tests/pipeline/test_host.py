"""What outputs and dead letters tell the ledger: never more than it holds, and each loss is counted once."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from shipper.checkpoint import Stored
from shipper.dead_letters import OVERHEAD_BYTES, DeadLetters
from shipper.delivery import Piece
from shipper.inputs.tail.generation import Generation
from shipper.ledger import DEAD, SPOOLED, Cursor, Segment
from shipper.metrics import Metrics
from shipper.outputs.fates import Letter
from shipper.pipeline.host import LetterBox, OutputHost
from shipper.record import Source

SOURCE = Source("pods", "/var/log/pods/shop_cart_u/app/0.log", "shop", "cart", "u", "app", 0)
SIZE = 100  # bytes of a record in the log file
DOCUMENT = b'{"a":"%b"}' % (b"x" * 1_000)
FULL = "lost:dead_letters_full"


class Bench:
    """One generation, and room for two letters."""

    def __init__(self, folder: Path) -> None:
        self.store = DeadLetters.open(folder, 2 * (len(DOCUMENT) + OVERHEAD_BYTES) + 100)
        self.generation = Generation(1, SOURCE, SOURCE.path, "t")
        self.cursor = self.generation.cursors["es"] = Cursor(1, "es")
        self.losses: Counter[tuple[str, str]] = Counter()
        self.box = LetterBox(self.store, self.find, self.count_loss)
        self.host = OutputHost(
            str(folder), "node-1", Metrics(), self.stored(), self.find, self.committed, self.count_loss
        )
        self.commits = 0

    def stored(self) -> Stored:
        return Stored({}, {}, {"es": {"key": b"row"}}, is_first_start=False)

    def find(self, id_: int) -> Generation | None:
        return self.generation if id_ == 1 else None

    def count_loss(self, generation: Generation, output: str, reason: str, count: int) -> None:
        assert generation is self.generation
        self.losses[output, reason] += count

    async def committed(self) -> None:
        self.commits += 1

    def read(self, records: int) -> Segment:
        return self.cursor.take(self.cursor.position + records * SIZE, records=records)

    async def reject(self, segment: Segment, begin: int) -> None:
        """As the worker does."""
        piece = Piece("logs", 0, len(DOCUMENT), 1, SOURCE, segment, SIZE)
        letter = Letter("es", piece, "mapping", "", begin, begin + SIZE, SIZE, DOCUMENT, f"id-{begin}")
        give_up = await self.box.keep([letter])
        segment.answer(1, rejected_bytes=SIZE)
        give_up()

    def fates(self) -> Mapping[str, int]:
        self.cursor.check()
        return self.cursor.fates

    def kept(self) -> list[int]:
        return [letter.begin for letter in self.store.select()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.store.close()


async def test_letter_is_kept_with_all_that_leads_back_to_its_record(bench: Bench) -> None:
    await bench.reject(bench.read(1), 0)
    (letter,) = bench.store.select()
    assert (letter.namespace, letter.pod, letter.container, letter.path) == ("shop", "cart", "app", SOURCE.path)
    assert (letter.generation, letter.begin, letter.end, letter.source_bytes) == (1, 0, 100, 100)
    assert (letter.target, letter.document, letter.document_id) == ("logs", DOCUMENT, "id-0")
    assert bench.fates() == {DEAD: 100}


async def test_letter_that_is_pushed_out_is_a_loss_in_ledger_and_metric(bench: Bench) -> None:
    segment = bench.read(4)
    for begin in (0, 100, 200, 300):
        await bench.reject(segment, begin)
    assert bench.kept() == [200, 300]
    assert bench.fates() == {DEAD: 200, FULL: 200}
    assert bench.losses == {("es", "dead_letters_full"): 200}


async def test_letter_of_a_segment_that_waits_for_an_earlier_one_is_no_smaller_loss(bench: Bench) -> None:
    first, second = bench.read(1), bench.read(3)
    for begin in (100, 200, 300):
        await bench.reject(second, begin)
    assert bench.losses == {("es", "dead_letters_full"): 100}
    first.answer(1)
    assert bench.fates() == {"delivered": 100, DEAD: 200, FULL: 100}


async def test_letter_that_outlived_a_crash_is_no_loss_before_it_is_rejected_again(bench: Bench) -> None:
    segment = bench.read(2)
    for begin in (0, 100):
        await bench.reject(segment, begin)
    bench.cursor = bench.generation.cursors["es"] = Cursor(1, "es")  # nothing was committed
    segment = bench.read(2)
    await bench.reject(segment, 0)
    assert (bench.kept(), bench.losses) == ([0, 100], {})
    await bench.reject(segment, 100)
    await bench.reject(bench.read(1), 200)
    assert bench.fates() == {DEAD: 200, FULL: 100}
    assert bench.losses == {("es", "dead_letters_full"): 100}


async def test_letter_that_is_larger_than_the_store_is_lost_at_once_and_said(bench: Bench) -> None:
    segment = bench.read(1)
    piece = Piece("logs", 0, 9_000, 1, SOURCE, segment, SIZE)
    give_up = await bench.box.keep([Letter("es", piece, "m", "", 0, SIZE, SIZE, b"x" * 9_000, None)])
    segment.answer(1, rejected_bytes=SIZE)
    give_up()
    assert bench.fates() == {FULL: 100}
    assert bench.losses == {("es", "dead_letters_full"): 100}


async def test_letters_of_forgotten_generations_and_outputs_concern_nobody(bench: Bench) -> None:
    segment = bench.read(2)
    for begin in (0, 100):
        await bench.reject(segment, begin)
    del bench.generation.cursors["es"]
    bench.cursor = Cursor(1, "es")
    await bench.reject(bench.read(1), 200)
    assert bench.losses == {}


def test_uploaded_bytes_are_delivered(bench: Bench) -> None:
    bench.read(3).answer(3, fate=SPOOLED)
    bench.host.uploaded("es", {1: 200, 2: 50}, 2)
    assert bench.fates() == {SPOOLED: 100, "delivered": 200}


def test_spooled_bytes_that_are_gone_are_lost_and_counted_once(bench: Bench) -> None:
    bench.read(3).answer(3, fate=SPOOLED)
    bench.host.lost("es", {1: 500, 2: 50}, 5, "spool_damaged")
    assert bench.fates() == {"lost:spool_damaged": 300}
    assert bench.losses == {("es", "spool_damaged"): 300}


async def test_host_offers_rows_and_commits(bench: Bench) -> None:
    assert bench.host.rows("es") == {"key": b"row"}
    assert bench.host.rows("other") == {}
    await bench.host.committed()
    assert bench.commits == 1
