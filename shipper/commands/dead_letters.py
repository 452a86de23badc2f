"""`shipper dead-letters`: records that a destination rejected."""

import argparse
import asyncio
from typing import Any

from shipper.commands import DONE, WITH_LOSSES, load
from shipper.dead_letters import DeadLetters, list_text, show_text
from shipper.errors import ShipperError
from shipper.log import configure


def list_letters(options: argparse.Namespace) -> int:
    store = DeadLetters.open_beside(load(options).service.state_dir)
    try:
        print(list_text(store.select(**_chosen_letters(options)), store.summary()))
    finally:
        store.close()
    return DONE


def show(options: argparse.Namespace) -> int:
    store = DeadLetters.open_beside(load(options).service.state_dir)
    try:
        if options.id is None:
            letters = store.select(**_chosen_letters(options))
        else:
            letters = [letter] if (letter := store.get(options.id)) else []
    finally:
        store.close()
    if not letters:
        which = "that fits" if options.id is None else options.id
        raise ShipperError(f"there is no dead letter {which}; `shipper dead-letters list` names them")
    print("\n\n".join(map(show_text, letters)))
    return DONE


def replay(options: argparse.Namespace) -> int:
    from shipper.replay.letters import replay_letters

    config = load(options)
    configure(config.service.log_level)
    delivered, refused = asyncio.run(replay_letters(config, **_chosen_letters(options)))
    print(f"{delivered} records were delivered, {refused} were refused again")
    return DONE if not refused else WITH_LOSSES


def _chosen_letters(options: argparse.Namespace) -> dict[str, Any]:
    """Of output, reason, namespace and time; for the store, and for replay."""
    return {name: getattr(options, name) for name in ("output", "reason", "namespace", "since", "until", "limit")}
