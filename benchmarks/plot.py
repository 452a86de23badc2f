"""The figures of a bench as a picture.

    python -m benchmarks.plot build/bench/results.json [more.json ...] [--out docs/images/performance]

It writes .svg and .png. Of several benches, which each ran some scenarios, the first one tells the CPU over a backlog.

matplotlib is only needed here: `pip install -e '.[plot]'`.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.results import Report, Row, ratios

MET, MISSED, PLAIN, YARDSTICK = "#2a7f62", "#c0392b", "#4a6fa5", "#9aa0a6"


def draw(report: Report, figure: Any) -> None:
    """Two charts: CPU in the yardstick's, by subject; and every figure that has a bar, in its bar."""
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (2, 3)})
    _draw_cpu(report, left)
    _draw_bars([row for row in report.rows if row.bar is not None and row.values and row.bar < 1e4], right)


def _draw_cpu(report: Report, axes: Any) -> None:
    subjects = list(dict.fromkeys((run.subject, run.mode) for run in report.runs if report.of(run.subject)))[::-1]
    for place, (subject, mode) in enumerate(subjects):
        values = sorted(ratios(report.of(subject), report.of(f"yardstick {mode}")))
        middle = statistics.median(values)
        colour = YARDSTICK if subject.startswith("yardstick") else PLAIN
        error = [[middle - values[0]], [values[-1] - middle]]
        axes.barh(place, middle, color=colour, xerr=error, ecolor="#333333", height=0.6)
        axes.text(values[-1], place, f"  {middle:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(subjects)), [subject for subject, _ in subjects], fontsize=8)
    axes.set_title("CPU over a backlog, in the yardstick's (less is better)", fontsize=9)
    axes.margins(x=0.15)


def _draw_bars(rows: list[Row], axes: Any) -> None:
    for place, row in enumerate(reversed(rows)):
        assert row.bar is not None
        share = row.bar / row.median if row.is_floor else row.median / row.bar
        axes.barh(place, share, color=MET if row.verdict == "met" else MISSED, height=0.6)
        axes.text(share, place, f"  {row.text}, bar {row.bar_text}", va="center", fontsize=7)
    axes.axvline(1.0, color="#333333", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{row.scenario}: {row.measure}" for row in reversed(rows)], fontsize=7)
    axes.set_title("what was measured, as a share of its bar (left of the line: met)", fontsize=9)
    axes.margins(x=0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="without an ending; default: beside the results")
    options = parser.parse_args()
    from matplotlib.figure import Figure

    reports = [msgspec.json.decode(path.read_bytes(), type=Report) for path in options.results]
    report = msgspec.structs.replace(reports[0], rows=[row for each in reports for row in each.rows])
    figure = Figure(figsize=(14, 6), layout="constrained")
    draw(report, figure)
    out: Path = options.out or options.results[0].with_suffix("")
    out.parent.mkdir(parents=True, exist_ok=True)
    for ending in (".svg", ".png"):
        figure.savefig(out.with_suffix(ending), dpi=110, metadata={"Date": None} if ending == ".svg" else None)
        print(out.with_suffix(ending))


if __name__ == "__main__":
    main()
