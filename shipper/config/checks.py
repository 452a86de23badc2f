"""What only the whole configuration can tell: names, what nothing can match, memory."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from shipper.config.model import Config
from shipper.filters.tag import TagConfig
from shipper.inputs.tail.config import TailConfig
from shipper.outputs.config import OutputConfig
from shipper.outputs.file import FileConfig
from shipper.template import Template
from shipper.values import Flaw, show_size

IsWrong = Callable[[tuple[str | int, ...]], bool]
T = TypeVar("T")


def find_flaws(config: Config, is_wrong: IsWrong) -> Iterator[Flaw]:
    """`config` may hold anything where `is_wrong` is true; nothing is said that rests on such a key."""
    yield from _find_equal_names(config, is_wrong)
    yield from _find_equal_paths(config, is_wrong)
    yield from _find_unmatched_outputs(config, is_wrong)
    yield from _find_small_memory(config, is_wrong)


def _items(config: Config, part: str, model: type[T]) -> list[tuple[int, T]]:
    """Entries of `inputs`, `filters` or `outputs` that could be read, with their places in the list."""
    entries = getattr(config, part)
    return [(i, e) for i, e in enumerate(entries) if isinstance(e, model)] if isinstance(entries, tuple) else []


def _find_equal_names(config: Config, is_wrong: IsWrong) -> Iterator[Flaw]:
    for part in ("inputs", "filters", "outputs"):
        first: dict[str, int] = {}
        for i, component in _items(config, part, object):
            path = (part, i, "name")
            name = getattr(component, "name", None)
            if not isinstance(name, str) or is_wrong(path):
                continue
            if name in first:
                yield Flaw(path, f"{part}[{first[name]}] is called {name} already; give one of them another name")
            first.setdefault(name, i)


def _find_equal_paths(config: Config, is_wrong: IsWrong) -> Iterator[Flaw]:
    first: dict[str, int] = {}
    for i, output in _items(config, "outputs", FileConfig):
        path = ("outputs", i, "path")
        if is_wrong(path):
            continue
        if output.path.text in first:
            yield Flaw(path, f"outputs[{first[output.path.text]}] writes there already; two outputs need two paths")
        first.setdefault(output.path.text, i)


def _find_unmatched_outputs(config: Config, is_wrong: IsWrong) -> Iterator[Flaw]:
    if is_wrong(("inputs",)) or is_wrong(("filters",)):
        return
    tags = _possible_tags(config)
    for i, output in _items(config, "outputs", OutputConfig):
        path = ("outputs", i, "match")
        if not is_wrong(path) and not _fits_any(output.match, tags):
            written = ", ".join(output.match) or "an empty list"
            yield Flaw(path, f"no tag can match {written}; there are {', '.join(t.text for t in tags)}")


def _possible_tags(config: Config) -> list[Template]:
    """Of the inputs, and of the tag filters that can see them. A `set` may not apply, so nothing is taken away."""
    tags = [tail.tag for _, tail in _items(config, "inputs", TailConfig)]
    for _, tagger in _items(config, "filters", TagConfig):
        if _fits_any(tagger.match, tags):
            tags += [tag for rule in tagger.rules for tag in (rule.add, rule.set) if tag is not None]
    return tags


def _fits_any(patterns: tuple[str, ...], tags: list[Template]) -> bool:
    shapes = ["".join(part if isinstance(part, str) else "*" for part in tag.parts) for tag in tags]
    return any(can_both_match(pattern, shape) for pattern in patterns for shape in shapes)


def can_both_match(one: str, other: str) -> bool:
    """Whether there is a text that both patterns match; `*` is any text."""
    reachable = {0}  # how much of `other` may be used up by the part of `one` that was looked at
    for char in one:
        reachable = _skip_stars(reachable, other)
        if char == "*":
            reachable = set(range(min(reachable), len(other) + 1)) if reachable else set()
            continue
        reachable = {i if other[i] == "*" else i + 1 for i in reachable if i < len(other) and other[i] in (char, "*")}
    return len(other) in _skip_stars(reachable, other)


def _skip_stars(positions: set[int], pattern: str) -> set[int]:
    """With every position also those behind stars that match nothing."""
    out = set(positions)
    for start in positions:
        end = start
        while end < len(pattern) and pattern[end] == "*":
            end += 1
            out.add(end)
    return out


def _find_small_memory(config: Config, is_wrong: IsWrong) -> Iterator[Flaw]:
    """Each output has an equal share of the memory, and needs two batches and two records in it."""
    outputs = _items(config, "outputs", OutputConfig)
    inputs = _items(config, "inputs", TailConfig)
    used = [("outputs", i, "batch") for i, _ in outputs] + [("inputs", i, "max_record_bytes") for i, _ in inputs]
    if is_wrong(("service", "memory_limit")) or any(is_wrong(path) for path in used) or not outputs or not inputs:
        return
    record = max(tail.max_record_bytes for _, tail in inputs)
    needed = len(outputs) * max(2 * (output.batch.max_bytes + record) for _, output in outputs)
    if config.service.memory_limit < needed:
        yield Flaw(
            ("service", "memory_limit"),
            f"{show_size(config.service.memory_limit)} is less than two batches and two records for each output; "
            f"set it to {show_size(needed)} or more, or make batch.max_bytes or max_record_bytes smaller",
        )
