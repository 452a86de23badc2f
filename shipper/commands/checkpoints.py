"""`shipper checkpoints`: the cursors, as of the last commit."""

import argparse
from pathlib import Path

from shipper.checkpoint import read_beside
from shipper.commands import DONE, load
from shipper.dead_letters import printable
from shipper.reset import reset_cursors


def list_cursors(options: argparse.Namespace) -> int:
    stored = read_beside(_state_dir(options))
    for generation in sorted(stored.generations.values(), key=lambda g: (g.live_path, g.id)):
        for name, cursor in sorted(stored.cursors.get(generation.id, {}).items()):
            print(f"{printable(generation.path)}\t{name}\t{cursor.acked} of {generation.size}")
    return DONE


def reset(options: argparse.Namespace) -> int:
    count = reset_cursors(_state_dir(options), output=options.output, path=options.path or "")
    print(f"{count} cursors of output {options.output} begin again at the head of their files")
    return DONE


def _state_dir(options: argparse.Namespace) -> Path:
    return Path(load(options).service.state_dir)
