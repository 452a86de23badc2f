"""`make fuzz FOR=10m`: the targets in turn, each time with another seed, until the time is over or one fails."""

import argparse
import itertools
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence

from shipper.values import parse_duration

TARGETS = (
    "tests/fuzz/test_answers.py",
    "tests/fuzz/test_files.py",
    "tests/fuzz/test_state.py",
    "tests/fuzz/test_words.py",
    "tests/parsers/test_parse.py",
    "tests/parsers/test_seam.py",
    "tests/parsers/test_json_object.py",
    "tests/test_encode.py",
    "tests/test_template.py",
    "tests/config/test_any_text.py",
    "tests/outputs/elasticsearch/test_judge.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--for", dest="lasts", type=parse_duration, default="1m", metavar="TIME", help="30s, 10m, 8h")
    parser.add_argument("targets", nargs="*", default=TARGETS, help="files of tests; default: all targets")
    options = parser.parse_args()
    end = time.monotonic() + options.lasts
    for runs, target in enumerate(itertools.cycle(options.targets)):
        if time.monotonic() >= end:
            print(f"fuzz: {runs} runs, nothing found")
            return 0
        command = pytest(target, seed=secrets.randbelow(2**32))
        if code := subprocess.call(command):
            print(f"fuzz: found something; again: {' '.join(command)}")
            return code
    return 0


def pytest(target: str, *, seed: int) -> Sequence[str]:
    options = ["--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}", "--timeout=3600"]
    return [sys.executable, "-m", "pytest", "-q", "-x", *options, "-p", "tests.fuzz.profile", target]


if __name__ == "__main__":
    sys.exit(main())
