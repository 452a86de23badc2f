"""The scenarios: what each runs, and the bars that its figures are held to.

Backlog scenarios share one data set, and the yardstick's runs of a round. Live ones have a load each. Growth compares
the same thing small and large.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.live import Live, Load
from benchmarks.results import GIB, Report, Row, Run, ratios
from benchmarks.subjects import Mode, Variant

MIB = 2**20 / 1e6  # in MB


@dataclass(frozen=True, slots=True)
class Backlog:
    """The shipper in one configuration, over the bench's data set."""

    name: str
    says: str
    mode: Mode = "plain"
    variant: Variant = "usual"
    cpu: float | None = None  # most, in the yardstick's
    lines: float | None = None  # least, in the yardstick's
    to_plain: float | None = None  # most CPU, in that of the scenario `plain`
    rss_mb: float = 100.0

    def rows(self, report: Report) -> list[Row]:
        runs, yard = report.of(self.name), report.of(f"yardstick {self.mode}")
        rows = [Row(scenario=self.name, measure="CPU, in the yardstick's", values=ratios(runs, yard), bar=self.cpu)]
        if self.to_plain is not None:
            values = ratios(runs, report.of("plain"))
            rows.append(Row(scenario=self.name, measure="CPU, in `plain`'s", values=values, bar=self.to_plain))
        if self.lines is not None:
            values = ratios(runs, yard, report.lines_s)
            rows.append(
                Row(
                    scenario=self.name,
                    measure="lines/s, in the yardstick's",
                    values=values,
                    bar=self.lines,
                    is_floor=True,
                )
            )
        rows.append(self._memory(runs))
        return rows

    def _memory(self, runs: Sequence[Run]) -> Row:
        values = [run.cost.rss_mb for run in runs]
        return Row(scenario=self.name, measure="peak RSS", values=values, unit=" MB", bar=self.rss_mb)


BACKLOGS = (
    Backlog("plain", "30 pods to Elasticsearch", cpu=0.25, lines=3.0),
    Backlog("gzip", "the same, requests compressed", mode="gzip", cpu=0.35),
    Backlog("twin", "the same, without the native encoder", variant="twin", cpu=0.8),
    Backlog("field", "a tag by the fields of every record", variant="field", cpu=0.8),
    Backlog("archive", "a third of the records to S3 too", variant="archive", to_plain=1.35, rss_mb=130.0),
)


@dataclass(frozen=True, slots=True)
class LiveScenario:
    """`bars`: most of each figure, by its name in `Live`; shares in percent of a core.

    `to_peers`: most CPU, in that of these, which are run in turn with it where they are on PATH.
    """

    name: str
    says: str
    load: Load
    bars: Mapping[str, float]
    runs: int = 1
    to_peers: Mapping[str, float] = field(default_factory=dict)

    def rows(self, results: Sequence[Live], peers: Mapping[str, Sequence[Live]]) -> list[Row]:
        """`peers`: their results, by name, of the same rounds."""
        good = [result for result in results if not result.fault]
        return [
            *self._own(good),
            *(row for name, theirs in peers.items() for row in self._beside(name, results, theirs)),
        ]

    def _own(self, good: Sequence[Live]) -> list[Row]:
        return [
            Row(
                scenario=self.name,
                measure=_MEASURES[name][0],
                values=[getattr(result, name) * _MEASURES[name][2] for result in good],
                unit=_MEASURES[name][1],
                bar=bar,
            )
            for name, bar in self.bars.items()
        ]

    def _beside(self, peer: str, results: Sequence[Live], theirs: Sequence[Live]) -> list[Row]:
        both = [(own, other) for own, other in zip(results, theirs, strict=True) if not (own.fault or other.fault)]
        ratios = [own.cpu_share / other.cpu_share for own, other in both]
        rows = [Row(scenario=self.name, measure=f"CPU, in {peer}'s", values=ratios, bar=self.to_peers[peer])]
        for name in ("cpu_share", "rss_mb", "requests_s"):
            measure, unit, factor = _MEASURES[name]
            values = [getattr(other, name) * factor for _, other in both]
            rows.append(Row(scenario=self.name, measure=f"{measure}, of {peer}", values=values, unit=unit))
        return rows


_MEASURES = {
    "cpu_share": ("CPU", " %", 100.0),
    "rss_mb": ("RSS", " MB", 1.0),
    "requests_s": ("bulk requests", "/s", 1.0),
    "p50_ms": ("latency, median", " ms", 1.0),
    "p99_ms": ("latency, 99 of 100", " ms", 1.0),
    "first_s": ("start to first document", " s", 1.0),
}

LIVES = (
    LiveScenario("idle-500", "500 files, nothing written", Load(500, 0, 30), {"cpu_share": 0.5, "rss_mb": 1e4}),
    LiveScenario("start-500", "500 files with a record in each", Load(500, 0, 0), {"first_s": 1.0}, runs=5),
    LiveScenario(
        "live-500",
        "1,000 records a second over 500 files",
        Load(500, 1000, 20),
        {"cpu_share": 4.0, "requests_s": 20.0, "p50_ms": 120.0, "p99_ms": 300.0},
        runs=3,
        to_peers={"vlagent": 0.43},
    ),
    LiveScenario(
        "live-10",
        "1,000 records a second over 10 files",
        Load(10, 1000, 20),
        {"cpu_share": 3.0, "requests_s": 20.0, "p50_ms": 120.0, "p99_ms": 300.0},
        runs=3,
    ),
    LiveScenario(
        "rate-10000",
        "10,000 records a second over 100 files",
        Load(100, 10_000, 15),
        {"cpu_share": 1e4, "rss_mb": 64 * MIB},
    ),
)


FLAT = 1.1  # CPU by GiB, and memory, in those of the first size


@dataclass(frozen=True, slots=True)
class Size:
    """What grows: the backlog, its files, and pods in the watch that write nothing.

    `mib` are generated for `files` pods; with `copies`, there are so many times the pods, with as many times the bytes.
    """

    mib: int
    files: int
    quiet_pods: int = 0
    copies: int = 1

    @property
    def name(self) -> str:
        mib = self.mib * self.copies
        text = f"{mib / 1024:.3g} GiB" if mib >= 1024 else f"{mib} MiB"
        return f"{text}, {self.files * self.copies} files" + (f", {self.quiet_pods} quiet" if self.quiet_pods else "")


@dataclass(frozen=True, slots=True)
class Growth:
    """The shipper's cost on each size, in its cost on the first: CPU by GiB, and peak memory."""

    name: str
    says: str
    sizes: tuple[Size, ...]

    def rows(self, sides: Sequence[Sequence[tuple[Run, int]]]) -> list[Row]:
        """`sides`: for each size its runs, with the bytes of their backlog. Rounds with a fault are left out."""
        rounds = [runs for runs in zip(*sides, strict=False) if not any(run.fault for run, _ in runs)]
        cpu = [[run.cost.cpu_s / read * GIB for run, read in (runs[i] for runs in rounds)] for i in range(len(sides))]
        rss = [[runs[i][0].cost.rss_mb for runs in rounds] for i in range(len(sides))]
        rows = []
        for size, used, peaks in zip(self.sizes, cpu, rss, strict=True):
            rows.append(Row(scenario=self.name, measure=f"CPU-s/GiB, {size.name}", values=used))
            if size is not self.sizes[0]:
                rows.append(self._growth(used, cpu[0]))
            rows.append(Row(scenario=self.name, measure=f"peak RSS, {size.name}", values=peaks, unit=" MB"))
            if size is not self.sizes[0]:
                rows.append(self._growth(peaks, rss[0]))
        return rows

    def _growth(self, values: Sequence[float], first: Sequence[float]) -> Row:
        grown = [a / b for a, b in zip(values, first, strict=True)]
        return Row(scenario=self.name, measure="... in that of the first", values=grown, unit=" x", bar=FLAT)


GROWTHS = (
    # the hardest case, 100 KB a file; and 1.6 MiB a file, where the kubelet lets each grow to 10 MiB
    Growth("growth-files", "100 to 5,000 files, 512 MiB in all", (Size(512, 100), Size(512, 5000))),
    Growth("growth-large", "100 to 5,000 files, 8 GiB in all", (Size(820, 10, copies=10), Size(82, 50, copies=100))),
    # the same node of 600 pods: what differs is how much of their logs is there
    Growth(
        "growth-backlog",
        "1 to 20 GiB in 600 files",
        (Size(52, 30, copies=20), Size(410, 30, copies=20), Size(1024, 30, copies=20)),
    ),
    Growth("growth-pods", "30 to 5,000 pods in the watch", (Size(1024, 30), Size(1024, 30, quiet_pods=4970))),
)
NAMES = tuple(each.name for each in (*BACKLOGS, *LIVES, *GROWTHS))
USUAL = tuple(each.name for each in (*BACKLOGS, *LIVES))  # growth takes long, and is asked for by name
