"""What folders held, believed for as long as their times tell that no name in them has changed.

To ask for a folder's time, and for the sizes of the files that are known to be in it, costs a tenth of listing it. That
finds the same: a listing is believed only where the folder had borne its stamp for longer before than any file system's
clock is coarse, so that whatever changes later gives it another one. By the clock of this process alone: what clocks
the stamps were made by, and whether these were set meanwhile, makes no difference. And since not all should hang on
what a file system says of its times, each folder is listed all the same every minute or two.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from shipper.inputs.tail.discovery import Family

COARSEST_S = 2.0  # FAT's; others' are some milliseconds, or a second
BELIEVED_S = 60.0  # at least; at most twice that, lest all folders be listed at once

Stamp = tuple[int, ...]
_NOTHING = frozenset[str]()


class Moment(msgspec.Struct, frozen=True):
    """When a listing began, by this process's clock, and the folder's stamp then."""

    at: float
    stamp: Stamp | None


class Listing(msgspec.Struct):
    """Of one folder, by one pattern: subfolders, or files; and what is left out of it."""

    stamp: Stamp
    since: float  # when the folder was first seen with that stamp
    until: float  # believed so long
    round: int  # in which it was met last
    folders: Sequence[str] = ()
    families: "Sequence[Family]" = ()
    excluded: frozenset[str] = _NOTHING


def stamp_of(folder: str) -> Stamp | None:
    """Differs as soon as any name in it has changed, or another folder stands in its place; None where there is none.

    Anybody can set the time of its change, but not that of its status.
    """
    try:
        info = os.stat(folder)  # noqa: PTH116
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ctime_ns, info.st_ino


class Memory:
    """Of one scanner, from one scan of everything to the next."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        stamp_of: Callable[[str], Stamp | None] = stamp_of,
    ) -> None:
        self._clock, self._stamp_of = clock, stamp_of
        self._listings: dict[tuple[str, str], Listing] = {}
        self._round = 0

    def __repr__(self) -> str:
        return f"<Memory of {len(self._listings)} listings>"

    def begin(self, folder: str) -> Moment:
        """To be called before it is listed."""
        return Moment(self._clock(), self._stamp_of(folder))

    def note(self, folder: str, pattern: str, began: Moment) -> Listing | None:
        """It was listed after `began`. -> where to put what it held; None where nothing tells how long that holds."""
        if began.stamp is None:
            return None
        known = self._listings.get((folder, pattern))
        since = known.since if known is not None and known.stamp == began.stamp else self._clock()
        is_old = began.at - since > COARSEST_S
        until = began.at + random.uniform(BELIEVED_S, 2 * BELIEVED_S) if is_old else began.at
        listing = self._listings[folder, pattern] = Listing(began.stamp, since, until, self._round)
        return listing

    def recall(self, folder: str, pattern: str) -> Listing | None:
        """What is believed of it, if it `stands` still."""
        listing = self._listings.get((folder, pattern))
        return listing if listing is not None and self._clock() < listing.until else None

    def stands(self, folder: str, listing: Listing) -> bool:
        """Whether no name in it has changed up to now."""
        listing.round = self._round
        return self._stamp_of(folder) == listing.stamp

    def end_round(self) -> None:
        """Forgets what was not asked for since the last time."""
        ended, self._round = self._round, self._round + 1
        for key in [key for key, listing in self._listings.items() if listing.round != ended]:
            del self._listings[key]
