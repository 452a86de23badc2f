"""`shipper run`: the daemon, until it is told to end."""

import argparse
import gc
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from shipper.commands import DONE, WITH_LOSSES, load

SWITCH_S = 0.0002  # Python's own is 0.005

if TYPE_CHECKING:
    from shipper.app import Daemon


def run(options: argparse.Namespace) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # one that comes now waits for who reads the file again
    gc.disable()  # nothing of what is loaded now is garbage; the daemon enables it when all is there
    config = load(options)
    import uvloop

    from shipper.allocator import settle_allocator
    from shipper.app import Daemon
    from shipper.log import configure

    settle_allocator()
    # The thread that reads and encodes needs the interpreter's lock for moments only. While the event loop sends, which
    # it does with the lock, each of them would be a wait of 5 ms: the two would take turns, not run side by side.
    sys.setswitchinterval(SWITCH_S)
    configure(config.service.log_level)
    progress = _Progress() if options.once else None
    daemon = Daemon(config, partial(load, options))
    try:
        uvloop.run(_run_to_its_end(daemon, once=options.once, progress=progress))
        if progress:
            progress.end(daemon)
        rejected, lost = daemon.rejected_records(), daemon.lost_bytes()
    finally:
        daemon.close()
        gc.freeze()  # all memory goes with the process: nobody need look through it once more
    if rejected or lost:
        print(
            f"shipper: done, but {rejected} records were rejected (see `shipper dead-letters list`) "
            f"and {lost} bytes were lost (see `shipper audit`)",
            file=sys.stderr,
        )
        return WITH_LOSSES
    return DONE


async def _run_to_its_end(daemon: "Daemon", *, once: bool, progress: "_Progress | None") -> None:
    try:
        await daemon.run(once=once, progress=progress)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # its handler ends with the event loop


class _Progress:
    """One line a second on stderr, in place on a terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, daemon: "Daemon") -> None:
        if self._is_terminal:
            print(f"\r{self._line(daemon)}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self, daemon: "Daemon") -> None:
        print(("\r" if self._is_terminal else "") + self._line(daemon), file=sys.stderr)

    def _line(self, daemon: "Daemon") -> str:
        passed = time.monotonic() - self._began
        records = sum(
            sample.value
            for metric in daemon.metrics.input_records.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
        backlog = ", ".join(f"{name} {daemon.report.backlog(name)[0]:,} bytes to go" for name in daemon.workers)
        return f"{records:,.0f} records, {records / max(passed, 0.001):,.0f} a second; {backlog}"
