"""Which outputs have a cursor in which file, and where in it they begin, by what is configured now."""

from collections.abc import Collection, Iterable

from shipper.inputs.tail.catalog import Catalog
from shipper.inputs.tail.generation import Generation
from shipper.ledger import SKIPPED, Cursor
from shipper.pipeline.plans import Plans
from shipper.pipeline.registry import Registry

LONGEST_TAIL_BYTES = 1 << 20  # looked through for the last end of a line


def place(registry: Registry, generation: Generation, catalog: Catalog | None, now: float) -> None:
    """With the input that takes its file; it was in `catalog` so far.

    Where an input's name has changed, another one that takes the file goes on with it.
    """
    home = registry.home_of(generation)
    generation.awaits_scan = generation.awaits_scan or (home is not None and home.catalog is not catalog)
    if catalog is not None and home is None:
        catalog.forget(generation)
        generation.forget_readings()
    elif home is not None and home.catalog is not catalog:
        home.catalog.join(generation, catalog.part_with(generation) if catalog is not None else None)
    if (home is None) != (generation.left_out_at is not None):
        generation.left_out_at, generation.is_dirty = now if home is None else None, True


def seat_first(plans: Plans, generation: Generation) -> None:
    """In a generation that was not known before."""
    for name in plans.may_ever_take(generation):
        generation.cursors[name] = _new_cursor(generation, name)


def seat(plans: Plans, generation: Generation, now: float) -> list[str]:
    """Gives cursors to the outputs that may have its records, and parks those of others. -> who begins at its head.

    A file that is gone is nothing to begin with.
    """
    wanted = plans.may_ever_take(generation) if generation.left_out_at is None else []
    for name in [name for name in generation.cursors if name not in wanted]:
        generation.park(name, now)
    begun = []
    for name in wanted:
        if name in generation.parked:
            generation.unpark(name)
        elif name not in generation.cursors and generation.gone_at is None:
            generation.cursors[name] = _new_cursor(generation, name)
            begun.append(name)
        else:
            continue
        generation.forget_seam()
    return begun


def newcomers(registry: Registry, outputs: Collection[str]) -> set[str]:
    """Those of them that no cursor belongs to."""
    return set(outputs) - {cursor.output for g in registry for cursor in g.all_cursors()}


def skip_to_end(generation: Generation, outputs: Iterable[str]) -> None:
    """These are not to have what is there already. Blocks."""
    border = last_border(generation)
    for name in outputs:
        skip(generation, name, border)


def skip(generation: Generation, output: str, border: int) -> None:
    """What lies before it is not for this output."""
    if border:
        fates = {SKIPPED: border}
        generation.cursors[output].take(border, state=generation.start_state(), fates=fates, records=0)
        generation.read_to = max(generation.read_to, border)


def last_border(generation: Generation) -> int:
    """Where the last complete line of a file ends, or a file that is final; 0 where that cannot be known. Blocks."""
    if generation.is_final:
        return generation.size
    if generation.file is None or generation.is_gzip:
        return 0
    for length in (4096, LONGEST_TAIL_BYTES):
        begin = max(0, generation.size - length)
        try:
            newline = generation.file.read(begin, generation.size - begin).rfind(b"\n")
        except OSError:  # whoever reads the file for its records says so
            return 0
        if newline >= 0:
            return begin + newline + 1
    return 0


def _new_cursor(generation: Generation, output: str) -> Cursor:
    return Cursor(generation.id, output, state=generation.start_state())
