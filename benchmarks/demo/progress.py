"""What the demo shows while it runs, from the daemon's own /metrics: one line, refreshed on a terminal."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

REFRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all outputs, at one moment; `at` in seconds of time.monotonic()."""

    at: float
    read: float
    delivered: dict[str, float]
    backlog_bytes: float


class Progress:
    def __init__(self, session: aiohttp.ClientSession, metrics_url: str) -> None:
        self._session = session
        self._url = metrics_url
        self._before: Figures | None = None

    async def show(self, *, until: Callable[[], bool]) -> None:
        """A line a REFRESH_S, until then."""
        while not until():
            await self._refresh()
            await asyncio.sleep(REFRESH_S)

    async def catch_up(self, *, limit_s: float, alive: Callable[[], bool]) -> None:
        """Shows on until nothing is left to deliver, or the time is over."""
        deadline = time.monotonic() + limit_s
        while alive() and time.monotonic() < deadline:
            figures = await self._refresh()
            if figures is not None and figures.backlog_bytes == 0:
                break
            await asyncio.sleep(REFRESH_S)
        if sys.stdout.isatty():
            print()

    async def _refresh(self) -> Figures | None:
        """None while the daemon does not answer."""
        try:
            async with self._session.get(self._url, timeout=aiohttp.ClientTimeout(2)) as answer:
                figures = parse_figures(await answer.text(), time.monotonic())
        except (aiohttp.ClientError, TimeoutError):
            return None
        line = show_figures(figures, self._before)
        self._before = figures
        print(f"\r{line:<110}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)
        return figures


def parse_figures(exposition: str, at: float) -> Figures:
    read, backlog, delivered = 0.0, 0.0, dict[str, float]()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == "shipper_input_records_total":
                read += sample.value
            elif sample.name == "shipper_backlog_bytes":
                backlog += sample.value
            elif sample.name == "shipper_output_records_total" and sample.labels["fate"] == "delivered":
                delivered[sample.labels["name"]] = sample.value
    return Figures(at, read, delivered, backlog)


def show_figures(now: Figures, before: Figures | None) -> str:
    rate = (now.read - before.read) / (now.at - before.at) if before is not None else 0.0
    delivered = ", ".join(f"{name} {count:,.0f}" for name, count in sorted(now.delivered.items()))
    backlog = f"backlog {now.backlog_bytes / 1024:,.0f} KiB"
    return f"{rate:9,.0f} records/s   delivered: {delivered or 'nothing yet'}   {backlog}"
