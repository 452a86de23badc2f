"""A node with 5,000 log files: one scan of all folders, and a watch on each of them."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.micro.stage import say, seconds_of
from shipper.inputs.tail.discovery import Scanner
from shipper.inputs.tail.inotify import Inotify


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
        scanner = Scanner([f"{root}/*/*/*.log"])
        say("a scan", seconds_of(scanner.scan, limit_s=options.seconds), options.files, "file")
        watching = seconds_of(lambda: Inotify(root, recursive=True).close(), limit_s=options.seconds)
        say("a watch that begins and ends", watching, options.files, "file")


if __name__ == "__main__":
    main()
