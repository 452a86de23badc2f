"""Where the time of the daemon goes: a flame graph of it, under one of the bench's backlogs or loads.

    python -m benchmarks.profile [--scenario plain|gzip|twin|field|live-500 ...] [--out build/profile-plain.svg]

py-spy samples the process from outside, 500 times a second, all threads that run.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.backlog import ensure_data
from benchmarks.kubernetes import serve_pods
from benchmarks.live import LiveBench
from benchmarks.scenarios import BACKLOGS, LIVES, Backlog, LiveScenario
from benchmarks.subjects import Job, Shipper, environment_of
from benchmarks.world.sink import start_sink

RATE_HZ = 500


def sampling(command: list[str], out: Path) -> list[str]:
    """`command`, watched by py-spy."""
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    options = ["--format", "flamegraph", "--rate", str(RATE_HZ), "--output", str(out)]
    return [spy, "record", *options, "--", *command]


async def profile_backlog(scenario: Backlog, cache: Path, out: Path, *, mib: int) -> int:
    folder, account = ensure_data(cache, mib=mib, pods=30, seed=1)
    with tempfile.TemporaryDirectory(prefix="profile-") as run, start_sink(compressed=scenario.mode == "gzip") as sink:
        async with serve_pods(account, wanted=True) as api:
            subject = Shipper(api, mode=scenario.mode, variant=scenario.variant)
            command = subject.command(Job(folder / "pods", sink.port, scenario.mode, Path(run)))
            process = await asyncio.create_subprocess_exec(*sampling(command, out), env=environment_of(subject))
            return await process.wait()


async def profile_live(scenario: LiveScenario, out: Path) -> int:
    result = await LiveBench(wrap=lambda command: sampling(command, out)).run(scenario.load)
    print(result.fault or f"latency {result.p50_ms:.0f} ms")
    return 1 if result.fault else 0


def main() -> None:
    scenarios = {each.name: each for each in BACKLOGS if each.variant != "archive"} | {e.name: e for e in LIVES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=scenarios, default="plain")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--out", type=Path, help="default: build/profile-SCENARIO.svg")
    parser.add_argument("--cache", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    out = options.out or Path("build") / f"profile-{options.scenario}.svg"
    out.parent.mkdir(parents=True, exist_ok=True)
    chosen = scenarios[options.scenario]
    if isinstance(chosen, Backlog):
        code = asyncio.run(profile_backlog(chosen, options.cache.resolve(), out, mib=options.mib))
    else:
        code = asyncio.run(profile_live(chosen, out))
    print(f"profile: {out}" if code == 0 else "profile: FAILED")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
