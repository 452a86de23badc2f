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
from sys import intern
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from shipper.inputs.tail.discovery import Family

COARSEST_S = 2.0  # FAT's; others' are some milliseconds, or a second
BELIEVED_S = 60.0  # at least; at most twice that, lest all folders be listed at once

Stamp = bytes
NOTHING = frozenset[str]()


class Moment(msgspec.Struct, frozen=True):
    """When a listing began, by this process's clock, and the folder's stamp then."""

    at: float
    stamp: Stamp | None


class Listing(msgspec.Struct, gc=False):
    """Of one folder, by one pattern: subfolders, or files; and what is left out of it. It is to be believed."""

    stamp: Stamp
    until: float  # believed so long
    round: int  # in which it was met last
    folders: Sequence[str] = ()
    families: "Sequence[Family]" = ()
    excluded: frozenset[str] = NOTHING


def stamp_of(folder: str) -> Stamp | None:
    """Differs as soon as any name in it has changed, or another folder stands in its place; None where there is none.

    Anybody can set the time of its change, but not that of its status.
    """
    try:
        info = os.stat(folder)  # noqa: PTH116
    except OSError:
        return None
    return b"%x %x %x" % (info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


class Memory:
    """Of one scanner, from one scan of everything to the next.

    There are two folders for each container. Of one whose listing is not to be believed yet, only a number is kept; of
    those that by chance have the same one, the younger would be believed too early.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        stamp_of: Callable[[str], Stamp | None] = stamp_of,
    ) -> None:
        self._clock, self._stamp_of = clock, stamp_of
        self._listings: dict[str, dict[str, Listing]] = {}  # by pattern and folder
        # a hash of folder, pattern and stamp -> the end of the round in which that was seen first
        self._young: dict[int, float] = {}
        self._young_now: dict[int, float | None] = {}  # the same, as far as this round has met them; None: first
        self._round = 0

    def __repr__(self) -> str:
        return f"<Memory of {sum(map(len, self._listings.values())) + len(self._young)} folders>"

    def begin(self, folder: str) -> Moment:
        """To be called before it is listed."""
        return Moment(self._clock(), self._stamp_of(folder))

    def note(self, folder: str, pattern: str, began: Moment) -> Listing | None:
        """It was listed after `began`. -> where to put what it held; None where that is not to be believed (yet)."""
        if began.stamp is None:
            return None
        folder = intern(folder)  # as who watches it has it
        listings = self._listings.setdefault(pattern, {})
        known = listings.pop(folder, None)
        if known is None or known.stamp != began.stamp:  # else it has had this stamp for long enough
            number = hash((folder, pattern, began.stamp))
            since = self._young.get(number)
            if since is None or began.at - since <= COARSEST_S:
                self._young_now[number] = since
                return None
        until = began.at + random.uniform(BELIEVED_S, 2 * BELIEVED_S)
        listing = listings[folder] = Listing(began.stamp, until, self._round)
        return listing

    def recall(self, folder: str, pattern: str) -> Listing | None:
        """What is believed of it, if it `stands` still."""
        listing = self._listings.get(pattern, {}).get(folder)
        return listing if listing is not None and self._clock() < listing.until else None

    def stands(self, folder: str, listing: Listing) -> bool:
        """Whether no name in it has changed up to now."""
        listing.round = self._round
        return self._stamp_of(folder) == listing.stamp

    def end_round(self) -> None:
        """Forgets what was not asked for since the last time."""
        ended, self._round = self._round, self._round + 1
        now = self._clock()
        self._young = {number: now if since is None else since for number, since in self._young_now.items()}
        self._young_now.clear()
        for listings in self._listings.values():
            for folder in [folder for folder, listing in listings.items() if listing.round != ended]:
                del listings[folder]
