"""CPU, memory, latency and lines a second, beside the yardstick and whatever peers there are, against their bars.

    python -m benchmarks.bench [--scenarios plain gzip live-500 ...] [--mib 512] [--rounds 3]

Over a backlog each configuration first runs unmeasured, and every document of that run is checked: each record once,
dated in order, whole, with its pod's labels. Then yardstick, shipper and peers run in turn, A, B, A, B. A measured run
must deliver as many documents, and as many bytes of them, as the one that was checked. Live runs are checked whole.
"""

import argparse
import asyncio
import compileall
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.backlog import Bench, Delivered, ensure_data
from benchmarks.kubernetes import serve_pods
from benchmarks.live import Live, LiveBench
from benchmarks.peers import PEERS, find_peers, make_peer
from benchmarks.results import Report, Run, show_rows, show_runs
from benchmarks.scenarios import BACKLOGS, GROWTHS, LIVES, NAMES, USUAL, Backlog, Growth, LiveScenario, Size
from benchmarks.subjects import Mode, Shipper, Subject, Yardstick
from benchmarks.world.copies import copies_of
from benchmarks.world.sink import start_sink
from shipper.native import MODULE


def compile_shipper() -> None:
    """As pip does when it installs a package: a checkout may run where Python is told to write no bytecode."""
    compileall.compile_dir(Path(__file__).parent.parent / "shipper", quiet=1)


class Suite:
    """Runs scenarios, and gathers what they say in a report."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._sums: dict[Size, Mapping[str, tuple[int, int]]] = {}
        found = find_peers()
        encoder = "native" if MODULE is not None else "Python"
        self.report = Report(encoder=encoder, peers=found, kubernetes=options.kubernetes == "on")

    def _add(self, **changes: object) -> None:
        self.report = msgspec.structs.replace(self.report, **changes)

    # -- backlogs -----------------------------------------------------------------------------------------------------

    async def run_backlogs(self, scenarios: Sequence[Backlog]) -> None:
        options, began = self._options, time.monotonic()
        folder, account = ensure_data(options.out, mib=options.mib, pods=options.pods, seed=options.seed)
        lines = sum(container.lines for container in account.containers)
        self._add(bytes=account.bytes, records=account.records, lines=lines)
        _say(f"{account.bytes / 2**20:.0f} MiB, {account.records:,} records; encoder: {self.report.encoder}")
        bench = Bench(folder, account, limit_s=options.limit)
        async with serve_pods(account, wanted=options.kubernetes == "on") as api:
            subjects = await self._check_all(bench, scenarios, api)
            for number in range(1, options.rounds + 1):
                for subject, expected in subjects:
                    self._keep(await bench.measure(subject, number, expected))
        for scenario in scenarios:
            self._add(rows=[*self.report.rows, *scenario.rows(self.report)])
        self._took("backlogs", began)

    async def _check_all(
        self, bench: Bench, scenarios: Sequence[Backlog], api: str
    ) -> list[tuple[Subject, Delivered | None]]:
        """What is to be measured: a yardstick for each mode, then what has passed its check, then peers."""
        modes: list[Mode] = list(dict.fromkeys(scenario.mode for scenario in scenarios))
        subjects: list[tuple[Subject, Delivered | None]] = [(Yardstick(mode), None) for mode in modes]
        for mode in modes:
            with start_sink(compressed=mode == "gzip") as sink:
                self._add(sinks={**self.report.sinks, mode: sink.language})
        for scenario in scenarios:
            subject = Shipper(api, mode=scenario.mode, variant=scenario.variant)
            verdict, expected = await bench.check(subject, labels=api != "off")
            _say(f"{scenario.name}: {scenario.says}: checked: {verdict}")
            self._add(checked={**self.report.checked, scenario.name: verdict})
            if expected is None:
                self._fault(f"{scenario.name}: {verdict}")
            else:
                subjects.append((subject, expected))
        if "plain" in modes and not self._options.no_peers:
            peers = [make_peer(name, api) for name, here in self.report.peers.items() if here]
            subjects += [(peer, None) for peer in peers if api != "off" or not peer.needs_api]
        return subjects

    def _keep(self, run: Run) -> None:
        self._add(runs=[*self.report.runs, run])
        cost = f"{run.cost.cpu_s:.2f} CPU-s in {run.cost.wall_s:.1f} s, {run.cost.rss_mb:.0f} MB"
        _say(f"round {run.round}: {run.subject}: {run.fault or cost}")
        if run.fault and run.subject not in PEERS:
            self._fault(f"{run.subject}, round {run.round}: {run.fault}")

    def _fault(self, sentence: str) -> None:
        self._add(faults=[*self.report.faults, sentence])

    def _took(self, name: str, began: float) -> None:
        seconds = round(time.monotonic() - began, 1)
        self._add(seconds={**self.report.seconds, name: seconds})
        _say(f"{name}: took {seconds:.0f} s")

    # -- live ---------------------------------------------------------------------------------------------------------

    async def run_live(self, scenario: LiveScenario) -> None:
        began, results = time.monotonic(), list[Live]()
        beside = [] if self._options.no_peers else [name for name in scenario.to_peers if self.report.peers[name]]
        peers: dict[str, list[Live]] = {name: [] for name in beside}
        for number in range(1, scenario.runs + 1):
            result = await LiveBench().run(scenario.load)
            results.append(result)
            _say(f"{scenario.name}: {scenario.says}: run {number}: {_show(result)}")
            if result.fault:
                self._fault(f"{scenario.name}, run {number}: {result.fault}")
            for name, theirs in peers.items():
                theirs.append(await LiveBench().run(scenario.load, name))
                _say(f"{scenario.name}: {name}: run {number}: {_show_peer(theirs[-1])}")
        self._add(rows=[*self.report.rows, *scenario.rows(results, peers)])
        self._took(scenario.name, began)

    # -- growth -------------------------------------------------------------------------------------------------------

    async def run_growth(self, growth: Growth) -> None:
        began = time.monotonic()
        sides: list[list[tuple[Run, int]]] = [[] for _ in growth.sizes]
        for number in range(1, self._options.rounds + 1):
            for side, size in zip(sides, growth.sizes, strict=True):
                side.append(await self._measure_size(size, number))
        self._add(rows=[*self.report.rows, *growth.rows(sides)])
        self._took(growth.name, began)

    async def _measure_size(self, size: Size, number: int) -> tuple[Run, int]:
        options = self._options
        folder, account = ensure_data(options.out, mib=size.mib, pods=size.files, seed=options.seed)
        sums = await self._checked_sums(size) if size.copies > 1 else None
        with copies_of(folder, account, size.copies) as (tree, pods, originals):
            wanted = None if sums is None else {uid: sums.get(original, (0, 0)) for uid, original in originals.items()}
            bench = Bench(tree, pods, limit_s=options.limit * size.copies, sums=sums is not None)
            async with serve_pods(pods, wanted=True, others=size.quiet_pods) as api:
                run = await bench.measure(Shipper(api), number, None, sums=wanted)
        _say(f"round {number}: {size.name}: {run.fault or f'{run.cost.cpu_s:.2f} CPU-s, {run.cost.rss_mb:.0f} MB'}")
        if run.fault:
            self._fault(f"{size.name}, round {number}: {run.fault}")
        return run, pods.bytes

    async def _checked_sums(self, size: Size) -> Mapping[str, tuple[int, int]]:
        """Of the documents of each pod that there will be copies of, in a run of which every document was looked at."""
        if size not in self._sums:
            options = self._options
            folder, account = ensure_data(options.out, mib=size.mib, pods=size.files, seed=options.seed)
            bench = Bench(folder, account, limit_s=options.limit, sums=True)
            async with serve_pods(account, wanted=True) as api:
                verdict, arrived = await bench.check(Shipper(api), labels=True)
            _say(f"{size.name}: what is copied: checked: {verdict}")
            self._sums[size] = {} if arrived is None else arrived.sums
            self._add(checked={**self.report.checked, size.name: verdict})
        return self._sums[size]


def _show(result: Live) -> str:
    if result.fault:
        return result.fault
    text = f"{result.cpu_share:.2%} of a core, {result.rss_mb:.0f} MB, {result.requests_s:.1f} requests/s"
    late = f", latency {result.p50_ms:.0f} ms, 99 of 100 {result.p99_ms:.0f}, at most {result.most_ms:.0f}"
    late += f" (the writer itself was {result.latest_ms:.0f} late)"
    return f"{text}, first document after {result.first_s:.2f} s{late if result.p50_ms else ''}"


def _show_peer(result: Live) -> str:
    text = f"{result.cpu_share:.2%} of a core, {result.rss_mb:.0f} MB, {result.requests_s:.1f} requests/s"
    return result.fault or f"{text}, {result.checked}"


def _say(sentence: str) -> None:
    print(sentence, flush=True)


async def run(options: argparse.Namespace) -> Report:
    compile_shipper()
    suite = Suite(options)
    backlogs = [each for each in BACKLOGS if each.name in options.scenarios]
    if backlogs:
        await suite.run_backlogs(backlogs)
    for live in LIVES:
        if live.name in options.scenarios:
            await suite.run_live(live)
    for growth in GROWTHS:
        if growth.name in options.scenarios:
            await suite.run_growth(growth)
    return suite.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", choices=NAMES, default=USUAL, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--pods", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kubernetes", choices=("on", "off"), default="on", help="metadata from an API, or none")
    parser.add_argument("--no-peers", action="store_true", help="leave out peers that are on PATH")
    parser.add_argument("--limit", type=float, default=180, help="seconds for one run over a backlog")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    options.out = options.out.resolve()
    report = asyncio.run(run(options))
    path: Path = options.out / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    if report.runs:
        print(f"\n{show_runs(report)}")
    print(f"\n{show_rows(report.rows)}\n")
    absent = [name for name, here in report.peers.items() if not here]
    print(f"peers that are not on PATH: {', '.join(absent) or 'none'}")
    print(f"all figures: {path}; as a picture: python -m benchmarks.plot {path}")
    if report.faults:
        print("\n".join(["bench: FAILED, these are no results:", *report.faults]))
        raise SystemExit(1)
    print("bench: DONE, every record arrived once in every run")


if __name__ == "__main__":
    main()
