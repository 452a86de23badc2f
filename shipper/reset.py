"""Lets an output begin again: what `shipper checkpoints reset` does."""

from contextlib import closing
from pathlib import Path

from shipper.checkpoint import Changes, Checkpoint, CursorRow, StateLock, read_beside
from shipper.errors import StateError
from shipper.ledger import SPOOLED


def reset_cursors(state_dir: Path, *, output: str, path: str = "") -> int:
    """Lets an output read all log files whose path begins with `path` again from their heads. -> how many.

    Raises StateError: no such output; a running daemon; records in the output's spool, which would be shipped twice.
    """
    read_beside(state_dir)  # says so where there is no state, rather than beginning one
    with StateLock(state_dir), closing(Checkpoint(state_dir)) as checkpoint:
        stored = checkpoint.load()
        names = {name for cursors in stored.cursors.values() for name in cursors}
        if output not in names:
            raise StateError(f"no cursor belongs to an output {output}; there are those of {', '.join(sorted(names))}")
        reset, generations = [], []
        for generation in stored.generations.values():
            cursor = stored.cursors.get(generation.id, {}).get(output)
            if cursor is None or not generation.live_path.startswith(path):
                continue
            if cursor.fates.get(SPOOLED):
                raise StateError(
                    f"{generation.path}: output {output} has records in its spool that are not uploaded; "
                    "let the daemon upload them first"
                )
            generations.append(generation)  # the cursor may be what its size is known by
            reset.append(CursorRow(generation=generation.id, output=output, last_time=generation.first_seen))
        checkpoint.take_idle_note()  # what was sent is not known any more
        checkpoint.commit(Changes(generations, reset))
    return len(reset)
