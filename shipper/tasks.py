"""Background tasks: named, guarded, in one task group. An endless task that merely returns is an error too."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVarTuple

from prometheus_client import Counter

from shipper.log import fields

log = logging.getLogger(__name__)

LONGEST_RESTART_S = 30.0
CANCEL_AGAIN_S = 1.0

Ts = TypeVarTuple("Ts")


class TaskEnded(Exception):
    """A task that was to run until it is cancelled has returned: a bug."""


class TaskGuard:
    """An asyncio.TaskGroup whose tasks have names, and may begin again after a failure.

        async with TaskGuard(errors=metrics.task_errors) as guard:
            guard.start(watch.run, name="watch", endless=True, restart_s=1)

    The block is left when every task has ended. A task that fails without `restart_s` cancels the others, and the block
    raises an ExceptionGroup that holds its exception, as TaskGroup does. `errors` has the one label `task`.
    """

    def __init__(
        self,
        *,
        errors: Counter | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._errors = errors
        self._sleep = sleep
        self._clock = clock
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<TaskGuard {', '.join(sorted(task.get_name() for task in self._tasks))}>"

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, exc, traceback)

    def start(
        self,
        function: Callable[[*Ts], Coroutine[Any, Any, object]],
        *args: *Ts,
        name: str,
        endless: bool = False,
        restart_s: float | None = None,
    ) -> asyncio.Task[None]:
        """Runs `function(*args)` as a task of this group; what it returns is dropped.

        `endless`: returning is an error too. `restart_s`: after an error, which is logged and counted, the function is
        called again after so many seconds; the delay doubles up to 30 s, and begins anew after a run of more than that.
        """
        if restart_s is None:
            guarded = _call(function, args, name=name, endless=endless)
        else:
            guarded = self._restart(function, args, name=name, endless=endless, first_delay_s=restart_s)
        task = self._group.create_task(guarded, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._cancelled:
            task.cancel()
        return task

    def cancel(self) -> None:
        """Cancels every task, and what they start from now on; the block then ends without an error.

        Libraries swallow a cancellation that comes amid their own clean-up: a task that goes on is cancelled again.
        """
        self._cancelled = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            asyncio.get_running_loop().call_later(CANCEL_AGAIN_S, self.cancel)

    async def _restart(
        self,
        function: Callable[[*Ts], Coroutine[Any, Any, object]],
        args: tuple[*Ts],
        *,
        name: str,
        endless: bool,
        first_delay_s: float,
    ) -> None:
        delay_s = first_delay_s
        while True:
            began = self._clock()
            try:
                return await _call(function, args, name=name, endless=endless)
            except Exception:
                if self._clock() - began > LONGEST_RESTART_S:
                    delay_s = first_delay_s
                log.exception("a background task failed and begins again", extra=fields(task=name, delay_s=delay_s))
                if self._errors is not None:
                    self._errors.labels(name).inc()
            await self._sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RESTART_S)


async def _call(
    function: Callable[[*Ts], Coroutine[Any, Any, object]], args: tuple[*Ts], *, name: str, endless: bool
) -> None:
    try:
        await function(*args)
    except Exception as exc:
        exc.add_note(f"in the task {name!r}")
        raise
    if endless:
        raise TaskEnded(f"the task {name!r} returned, though it was to run until the end")
