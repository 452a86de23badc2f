"""A node with 5,000 log files: one scan of all folders, one that comes later, and a watch on each of them."""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.micro.stage import say, seconds_of
from shipper.inputs.tail.discovery import Scanner
from shipper.inputs.tail.inotify import Inotify
from shipper.inputs.tail.memory import COARSEST_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--files", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="micro-") as root:
        for number in range(options.files):
            folder = Path(root) / f"shop_cart-{number}_uid-{number}/app"
            folder.mkdir(parents=True)
            (folder / "0.log").write_bytes(b"2026-11-21T10:00:00Z stdout F x\n")
        pattern = f"{root}/*/*/*.log"
        scanning = seconds_of(lambda: Scanner([pattern]).scan(), limit_s=options.seconds)
        say("a scan", scanning, options.files, "file")
        scanner = Scanner([pattern])
        scanner.scan()
        time.sleep(1.1 * COARSEST_S)
        scanner.scan()
        say("a later scan", seconds_of(scanner.scan, limit_s=options.seconds), options.files, "file")
        watching = seconds_of(lambda: Inotify(root, recursive=True).close(), limit_s=options.seconds)
        say("a watch that begins and ends", watching, options.files, "file")


if __name__ == "__main__":
    main()
