"""`shipper replay`: archived records, sent again."""

import argparse
import asyncio
import signal
from collections.abc import Callable

from shipper.commands import DONE, FAILED, INTERRUPTED, WITH_LOSSES, load
from shipper.config.model import Config
from shipper.log import configure
from shipper.replay.archive import Choice, Tally, replay_archive
from shipper.replay.show import Progress, summary


def replay(options: argparse.Namespace) -> int:
    config = load(options)
    configure(config.service.log_level)
    progress, tally = Progress(), Tally()
    try:
        asyncio.run(_replay_until_told(config, options, tally, progress))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    finally:
        if tally.objects:
            progress.end(tally)
            print(summary(tally, is_dry=options.dry_run))
    if not tally.is_complete:
        return FAILED
    return WITH_LOSSES if tally.refused else DONE


async def _replay_until_told(
    config: Config, options: argparse.Namespace, tally: Tally, progress: Callable[[Tally], None]
) -> None:
    """SIGTERM stops it, and SIGINT, also where a shell has it ignored by what runs in the background."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    choice = Choice(options.since, options.until, options.namespace, make_ids=options.make_ids)
    await replay_archive(
        config, options.origin, to=options.to, choice=choice, tally=tally, dry_run=options.dry_run, report=progress
    )
