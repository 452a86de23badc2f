"""The power fails: every promise of the state rests on an fsync, and the daemon makes a whole of whatever is left."""

import random
from pathlib import Path

from tests.e2e.power_loss import room
from tests.fakes import strace

DISKS = 8


async def test_a_power_loss_costs_no_record_and_repeats_none(tmp_path: Path) -> None:
    strace.needed()
    rng = random.Random(1)
    async with room(tmp_path) as site:
        recording = await site.record()
        print(f"{len(recording.moments)} fsyncs, {len(recording.puts)} objects")
        assert len(recording.moments) > 100
        assert len(recording.puts) > 3
        assert any(path.name.endswith(".ndjson.1") for path in (tmp_path / "out").rglob("*"))
        (scratch := tmp_path / "scratch").mkdir()
        assert list(recording.broken_promises(["everything", "any"], rng, scratch)) == []
        for moment, loss in recording.some(rng, DISKS):
            await site.restart(recording, moment, loss, rng)
