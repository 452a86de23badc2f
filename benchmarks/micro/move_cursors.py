"""The ledger and the checkpoint: a chunk taken and answered; a commit of 500 files that have moved."""

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.micro.stage import options, say, seconds_of
from shipper.checkpoint import Changes, Checkpoint, CursorRow, GenerationRow
from shipper.ledger import Cursor

CHUNKS, FILES = 1000, 500


def _take_and_answer() -> None:
    cursor = Cursor(1, "es")
    for number in range(1, CHUNKS + 1):
        cursor.take(number * 1000, records=3).answer(3)


def _commit(checkpoint: Checkpoint) -> None:
    generations = [GenerationRow(id=i, input="pods", path=f"/p/{i}", live_path=f"/p/{i}") for i in range(FILES)]
    cursors = [CursorRow(generation=i, output="es", acked=1000, fates={"delivered": 1000}) for i in range(FILES)]
    checkpoint.commit(Changes(generations, cursors))


def main() -> None:
    limit_s = options(__doc__)
    say("a chunk taken and answered", seconds_of(_take_and_answer, limit_s=limit_s), CHUNKS, "chunk")
    with tempfile.TemporaryDirectory(prefix="micro-") as folder:
        checkpoint = Checkpoint(Path(folder))
        say("a commit, fsync and all", seconds_of(partial(_commit, checkpoint), limit_s=limit_s), FILES, "file")
        checkpoint.close()


if __name__ == "__main__":
    main()
