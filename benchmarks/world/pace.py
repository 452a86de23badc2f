"""Live load: a node's containers write records one by one, evenly spread over files and time.

    python -m benchmarks.world.pace DIR --files 500 --rate 1000 --seconds 30

It runs as a process of its own. It makes DIR/pods with `--head` records in each file, saves DIR/account.json, prints
`ready`, and waits for a line on its input. Then it writes, one system call a record, with the time of that moment as
the line's; saves the account again, and prints how many records it wrote, in how long, and how late the latest was.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.world.account import Account
from benchmarks.world.applications import Application, Record
from benchmarks.world.clock import Clock
from benchmarks.world.generator import plan_pods
from benchmarks.world.runtime import ContainerLog

POOL = 500  # draws of an application, made before the clock runs


class Paced(msgspec.Struct, frozen=True):
    """What a writer says of itself at its end."""

    records: int
    seconds: float
    latest_s: float  # how far behind its time the latest record was written


@dataclass(frozen=True, slots=True)
class Pooled(Application):
    """Its records were drawn before: what is left to do while the clock runs is numbering them."""

    pool: tuple[list[Record], ...] = ()

    def draw(self, rng: random.Random) -> list[Record]:
        return rng.choice(self.pool)


def make_logs(folder: Path, *, files: int, seed: int) -> tuple[Account, list[ContainerLog]]:
    """Empty files of as many pods, with the wall clock as theirs."""
    rng = random.Random(seed)
    plans = plan_pods(files, rng)
    pools = {application.name: _draw(application, rng) for application in {plan.application for plan in plans}}
    account = Account(seed=seed, containers=[plan.account() for plan in plans])
    clock = Clock(time.time_ns(), factor=1.0)
    logs = []
    for plan, container in zip(plans, account.containers, strict=True):
        place = folder / "pods" / plan.folder
        place.mkdir(parents=True)
        log = ContainerLog(place, container, pools[plan.application.name], clock, rng)
        log.start()
        logs.append(log)
    return account, logs


def _draw(application: Application, rng: random.Random) -> Pooled:
    draws = tuple(application.draw(rng) for _ in range(POOL))
    return Pooled(application.name, application.usual, application.is_json, draws)


def write_at(logs: Iterable[ContainerLog], *, rate: float, seconds: float) -> Paced:
    """Each of `logs` in its turn, `rate` records a second in all."""
    turns = list(logs)
    began, done, latest_s = time.monotonic(), 0, 0.0
    while done < rate * seconds:
        due = began + done / rate
        now = time.monotonic()
        if now < due:
            time.sleep(max(due - now, 0.001))  # several records are due after a sleep, where the rate is high
            continue
        latest_s = max(latest_s, now - due)
        turns[done % len(turns)].write()
        done += 1
    return Paced(done, time.monotonic() - began, latest_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1000.0, help="records a second, over all files")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--head", type=int, default=1, help="records in each file before anything is asked for")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    account, logs = make_logs(options.folder, files=options.files, seed=options.seed)
    for log in logs:
        log.write(options.head)
    account.save(options.folder / "account.json")
    print("ready", flush=True)
    sys.stdin.readline()
    paced = write_at(logs, rate=options.rate, seconds=options.seconds)
    account.save(options.folder / "account.json")
    print(msgspec.json.encode(paced).decode(), flush=True)


if __name__ == "__main__":
    main()
