"""When to look at what has changed: inotify over a folder. Where it is not to be had, the rescan polls instead."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator

from shipper.inputs.tail.inotify import Batch, Change, Inotify
from shipper.log import fields

__all__ = ["Batch", "Change", "changes", "wait_for_folder"]

log = logging.getLogger(__name__)

GATHER_S = 0.18  # the shortest time between two batches: under steady writing, one wake-up for many lines
FOLDER_S = 1.0  # how often one that is not there yet is looked for


async def changes(root: str, *, recursive: bool) -> AsyncGenerator[Batch, None]:
    """Batches of changes below `root`. The first is empty: the watch stands, nothing that comes is missed from now on.

    The first change after a quiet time is told at once; nothing wakes up while nothing changes. Raises OSError where
    the system has no more inotify watches. Ends when `root` is not there.
    """
    try:
        watched = await asyncio.to_thread(Inotify, root, recursive=recursive)
        with contextlib.closing(watched):
            yield set()
            loop = asyncio.get_running_loop()
            while True:
                await _has_news(watched)
                began = loop.time()
                while batch := watched.read():  # as long as it goes on, one wake-up tells of all that came meanwhile
                    yield batch
                    await asyncio.sleep(max(0.0, began + GATHER_S - loop.time()))
                    began = loop.time()
    except (FileNotFoundError, NotADirectoryError):
        return  # it went away again
    except OSError as exc:
        log.warning(
            "a folder cannot be watched; it is polled instead, which finds new lines later",
            extra=fields(folder=root, error=str(exc), hint="raise fs.inotify.max_user_watches and max_user_instances"),
        )
        raise


async def _has_news(watched: Inotify) -> None:
    """Returns when `read` has something to tell."""
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    loop.add_reader(watched.fileno(), news.set)
    try:
        await news.wait()
    finally:
        loop.remove_reader(watched.fileno())


async def wait_for_folder(root: str) -> None:
    """Returns when it is there."""
    while not await asyncio.to_thread(os.path.isdir, root):  # noqa: ASYNC110  # nothing tells when it comes
        await asyncio.sleep(FOLDER_S)
