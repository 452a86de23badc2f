"""What was measured, as rows: a figure for each measure, with its spread, its bar, and whether it holds."""

import statistics
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.measure import Cost

GIB = 2**30


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run over a backlog. `fault` says why it is no result, if it is none."""

    subject: str
    mode: str
    round: int
    cost: Cost
    documents: int
    fault: str = ""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of a scenario. `bar`: what its median may be at most (or at least: `is_floor`); None: just said."""

    scenario: str
    measure: str
    values: list[float]
    unit: str = ""
    bar: float | None = None
    is_floor: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        if not self.values:
            return "no result"
        if self.bar is None:
            return ""
        return "met" if (self.median >= self.bar if self.is_floor else self.median <= self.bar) else "MISSED"

    @property
    def bar_text(self) -> str:
        return "" if self.bar is None else f"{'>=' if self.is_floor else '<='} {_figure(self.bar)}{self.unit}"

    @property
    def text(self) -> str:
        return _spread(self.values, lambda value: f"{_figure(value)}{self.unit}")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of a bench, for machines."""

    bytes: int = 0
    records: int = 0
    lines: int = 0
    encoder: str = ""
    kubernetes: bool = False
    sinks: dict[str, str] = {}  # by mode: the language of the sink
    checked: dict[str, str] = {}  # by subject: the checker's verdict on a run that was not measured
    runs: list[Run] = []
    rows: list[Row] = []
    peers: dict[str, bool] = {}
    seconds: dict[str, float] = {}  # by scenario: how long it took
    faults: list[str] = []

    def cpu_per_gib(self, run: Run) -> float:
        return run.cost.cpu_s / self.bytes * GIB

    def lines_s(self, run: Run) -> float:
        return self.lines / run.cost.wall_s

    def of(self, subject: str) -> list[Run]:
        """Those that are results."""
        return [run for run in self.runs if run.subject == subject and not run.fault]


def show_runs(report: Report) -> str:
    """CPU is user + system of the process tree; ratios are taken round by round; medians, (least-most)."""
    head = f"{'':18}{'CPU-s/GiB':>20}{'x yardstick':>20}{'lines/s':>20}{'peak RSS MB':>14}{'runs':>6}"
    rows = [head, "-" * len(head)]
    for subject, mode in dict.fromkeys((run.subject, run.mode) for run in report.runs):
        runs = report.of(subject)
        if not runs:
            rows.append(f"{subject:18}{'no result':>20}")
            continue
        cpu = _spread([report.cpu_per_gib(run) for run in runs], "{:.2f}".format)
        ratio = _spread(ratios(runs, report.of(f"yardstick {mode}")), "{:.2f}".format)
        lines = _spread([report.lines_s(run) / 1000 for run in runs], "{:.0f}k".format)
        memory = max(run.cost.rss_mb for run in runs)
        rows.append(f"{subject:18}{cpu:>20}{ratio:>20}{lines:>20}{memory:>14.0f}{len(runs):>6}")
    return "\n".join(rows)


def show_rows(rows: Sequence[Row]) -> str:
    head = f"{'scenario':16}{'measure':38}{'median (least-most)':>30}  {'bar':14}{'verdict':9}"
    lines = [f"{row.scenario:16}{row.measure:38}{row.text:>30}  {row.bar_text:14}{row.verdict}" for row in rows]
    return "\n".join([head, "-" * len(head), *lines])


def ratios(
    runs: Sequence[Run], others: Sequence[Run], what: Callable[[Run], float] = lambda run: run.cost.cpu_s
) -> list[float]:
    """Between runs of the same round: machines change by the minute."""
    by_round = {run.round: what(run) for run in others}
    return [what(run) / by_round[run.round] for run in runs if run.round in by_round]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return show(values[0])
    return f"{show(statistics.median(values))} ({show(min(values))}-{show(max(values))})"
