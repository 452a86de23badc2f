"""The table that a torture prints: a row for each seed, and their sum."""

from collections import Counter
from collections.abc import Sequence

from benchmarks.torture.run import Outcome

COLUMNS = {
    "seed": 5,
    "written": 8,
    "es": 8,
    "archive": 8,
    "files": 8,
    "duplicate": 9,
    "rejected": 8,
    "lost": 6,
    "split": 5,
    "kills": 5,
    "stops": 5,
    "faults": 6,
    "rotations": 9,
    "peak MiB": 8,
    "ledger": 6,
}
HEAD = "  ".join(f"{name:>{width}}" for name, width in COLUMNS.items())


def row(outcome: Outcome) -> str:
    figures = _figures(outcome)
    return _line(str(outcome.seed), figures, "right" if outcome.is_ledger_right else "WRONG")


def total(outcomes: Sequence[Outcome]) -> str:
    """Sums, the highest peak, and what went wrong by kind."""
    figures = Counter[str]()
    for outcome in outcomes:
        figures.update(_figures(outcome))
    figures["peak MiB"] = max(outcome.peak_bytes >> 20 for outcome in outcomes)
    verdict = "right" if all(outcome.is_ledger_right for outcome in outcomes) else "WRONG"
    faults = sum((outcome.faults for outcome in outcomes), Counter[str]())
    events = sum((outcome.events for outcome in outcomes), Counter[str]())
    return "\n".join([_line("sum", figures, verdict), _list("faults", faults), _list("on the node", events)])


def _figures(outcome: Outcome) -> Counter[str]:
    figures = Counter[str]({found.output: found.delivered for found in outcome.outputs})
    for found in outcome.outputs:
        figures["duplicate"] += found.duplicates
        figures["rejected"] += found.rejected
        figures["lost"] += found.lost
        figures["split"] += found.split
    figures["written"] = outcome.records
    figures["duplicate"] += outcome.repeated_ids
    figures["kills"], figures["stops"] = outcome.ends["SIGKILL"], outcome.ends["SIGTERM"]
    figures["faults"] = sum(outcome.faults.values())
    figures["rotations"] = sum(outcome.events[name] for name in ("rotate", "record_over_rotation"))
    figures["peak MiB"] = outcome.peak_bytes >> 20
    return figures


def _line(name: str, figures: Counter[str], verdict: str) -> str:
    cells = {"seed": name, "ledger": verdict} | {key: f"{figures[key]:,}" for key in COLUMNS if key in figures}
    return "  ".join(f"{cells.get(key, '0'):>{width}}" for key, width in COLUMNS.items())


def _list(title: str, counts: Counter[str]) -> str:
    return f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
