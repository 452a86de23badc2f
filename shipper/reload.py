"""Another configuration while the daemon runs: asked for by SIGHUP or over HTTP, one attempt at a time.

A wrong one changes nothing and says why. What becomes of a right one is the daemon's business (shipper.app).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Literal, TypeVar

import msgspec

from shipper.errors import ConfigError, ShipperError
from shipper.log import fields
from shipper.metrics import Metrics

log = logging.getLogger(__name__)

C = TypeVar("C")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Of one attempt. `changed` and `needs_restart` name parts of the configuration; `problems` are sentences."""

    result: Literal["done", "unchanged", "refused"]
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Torn(Exception):
    """Between two configurations: only a restart, which begins with what is committed, puts that in order."""


class NotNow(ShipperError):
    """The daemon cannot take anything over: the configuration is not to blame."""


class Reloader(Generic[C]):
    """`read` blocks and raises ConfigError. What `take_over` raises means that nothing was changed; but for Torn."""

    def __init__(self, read: Callable[[], C], take_over: Callable[[C], Awaitable[Outcome]], metrics: Metrics) -> None:
        self._read, self._take_over, self._metrics = read, take_over, metrics
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[Outcome]] = []
        self._last: Outcome | None = None
        self._last_at: float | None = None
        self._succeeded_at: float | None = None
        self._why_not = ""

    def __repr__(self) -> str:
        return f"<Reloader: {self._last.result if self._last else 'not asked yet'}>"

    def ask(self) -> None:
        """Several that come while one is under way are one."""
        if self._why_not:
            log.warning("a reload was asked for and is not done", extra=fields(reason=self._why_not))
        self._asked.set()

    async def reload(self) -> Outcome:
        """Reads the configuration after this was called, not before. Raises NotNow."""
        if self._why_not:
            raise NotNow(self._why_not)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._asked.set()
        return await future

    async def answer(self) -> tuple[int, Mapping[str, Any]]:
        """To a request over HTTP: status, and what is said."""
        try:
            outcome = await self.reload()
        except NotNow as exc:
            return 409, {"result": "refused", "problems": [str(exc)]}
        return 422 if outcome.result == "refused" else 200, msgspec.structs.asdict(outcome)

    def refuse(self, why: str) -> None:
        """From now on."""
        self._why_not = why
        for future in self._waiting:
            if not future.done():
                future.set_exception(NotNow(why))
        self._waiting.clear()

    async def run(self) -> None:
        """Endless."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            try:
                answer: Outcome | NotNow = await self._attempt()
            except NotNow as exc:
                log.warning("a reload was asked for and is not done", extra=fields(reason=str(exc)))
                answer = exc
            except BaseException:
                _answer(waiting, NotNow("the daemon is stopping"))
                raise
            _answer(waiting, answer)

    async def _attempt(self) -> Outcome:
        try:
            outcome = await self._take_over(await asyncio.to_thread(self._read))
        except (NotNow, Torn):
            raise
        except ConfigError as exc:
            outcome = Outcome(result="refused", problems=tuple(map(str, exc.problems)))
        except ShipperError as exc:
            outcome = Outcome(result="refused", problems=(str(exc),))
        except Exception:
            log.exception("a reload failed in a way that it should not; nothing was changed")
            self._metrics.task_errors.labels("reload").inc()
            outcome = Outcome(result="refused", problems=("the reload failed: see the daemon's log",))
        self._last, self._last_at = outcome, time.time()
        self._metrics.config_reloads.labels(outcome.result).inc()
        self._say(outcome)
        return outcome

    def _say(self, outcome: Outcome) -> None:
        if outcome.result == "refused":
            log.error(
                "the configuration is wrong; the one before stays in force", extra=fields(problems=outcome.problems)
            )
            return
        self._succeeded_at = self._last_at
        if outcome.needs_restart:
            log.warning(
                "parts of the configuration take effect at the next start only",
                extra=fields(parts=outcome.needs_restart),
            )
        log.info("the configuration was read again", extra=fields(result=outcome.result, changed=outcome.changed))

    def status(self) -> dict[str, Any]:
        return {
            "last_success_at": self._succeeded_at,
            "last_at": self._last_at,
            "last": msgspec.structs.asdict(self._last) if self._last else None,
        }


def _answer(waiting: list[asyncio.Future[Outcome]], answer: Outcome | NotNow) -> None:
    for future in waiting:
        if future.done():
            continue  # whoever asked has gone
        if isinstance(answer, Outcome):
            future.set_result(answer)
        else:
            future.set_exception(answer)
