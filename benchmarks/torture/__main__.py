"""A node's hour, compressed, with all faults at once; the daemon is killed again and again. What became of each record?

    python -m benchmarks.torture [--seeds 3] [--first 1] [--minutes 60] [--factor 120] [--losses]
    python -m benchmarks.torture --seed 17     # one of them again

Everything that stays readable must arrive once. With --losses the kubelet also deletes what nobody has read: then what
is lost must be told exactly, or as a gap. docs/reliability.md says what is simulated.
"""

import argparse
import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from benchmarks.torture.archive import Archive, run_s3
from benchmarks.torture.pace import Pace
from benchmarks.torture.run import Outcome, Torture
from benchmarks.torture.table import HEAD, row, total

CROWDED_EVERY = 10  # seeds: the API server of one has 5,000 pods
PROBLEMS = 12  # told of a seed


def torture(endpoint: str, pace: Pace, *, seed: int, losses: bool, without: Collection[str]) -> Outcome:
    """Its folder stays when something is wrong, and is named."""
    folder = Path(tempfile.mkdtemp(prefix=f"shipper-torture-{seed}-"))
    archive = Archive(endpoint, f"torture-{seed}-{time.time_ns()}")
    run = Torture(
        folder,
        seed=seed,
        pace=pace,
        archive=archive,
        keeps_unread=not losses,
        crowded=seed % CROWDED_EVERY == 0,
        without=without,
    )
    outcome = asyncio.run(run.run())
    if outcome.ok:
        shutil.rmtree(folder)
    else:
        outcome.problems.append(f"logs, state and documents: {folder}")
    return outcome


def explain(outcome: Outcome, command: str) -> None:
    print(f"seed {outcome.seed}: FAILED; again: {command} --seed {outcome.seed}")
    for problem in [*outcome.problems[:PROBLEMS], *outcome.problems[PROBLEMS:][-1:]]:
        print(f"  {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--minutes", type=float, default=60, help="simulated, of each")
    parser.add_argument("--factor", type=float, default=120, help="simulated seconds in one of ours")
    parser.add_argument("--losses", action="store_true", help="the kubelet also deletes what nobody has read")
    parser.add_argument("--without", nargs="*", default=[], help="events on the node that do not happen: clock_step")
    options = parser.parse_args()
    pace = Pace(options.factor, options.minutes)
    first, count = (options.seed, 1) if options.seed is not None else (options.first, options.seeds)
    command = f"python -m benchmarks.torture --minutes {options.minutes:g} --factor {options.factor:g}"
    command += " --losses" if options.losses else ""
    outcomes = []
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # of servers that are stopped amid a request
    print(HEAD, flush=True)
    with run_s3() as endpoint:
        for seed in range(first, first + count):
            outcome = torture(endpoint, pace, seed=seed, losses=options.losses, without=options.without)
            outcomes.append(outcome)
            print(row(outcome), flush=True)
            if not outcome.ok:
                explain(outcome, command)
    print(total(outcomes))
    failed = [outcome.seed for outcome in outcomes if not outcome.ok]
    print(f"torture: FAILED, seeds {failed}" if failed else "torture: PASSED")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
