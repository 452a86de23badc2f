"""The shipper as a process: started, killed, stopped, and asked for its ledger."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

START_S = 40.0  # until it answers, on a busy machine
STOP_S = 30.0
COMMAND_S = 60.0
SAMPLE_S = 0.1
POLL_S = 0.05
COMMITTED_S = 3.0  # what it saw so long before a kill is durable
WATCHES_S = 1.0  # after it is ready
RELOADED_S = 2.0  # before and after SIGHUP, in which its watches are exchanged
FOR_EVER = float("inf")
ENDED_WELL = (0, 3)  # 3: done, but records were rejected


class Ended(Exception):  # it did, though nobody told it to
    """The daemon is no more, or does not do what it was told."""


class Daemon:
    """One configuration in `folder`, and the processes that run it one after another."""

    def __init__(self, folder: Path, config: Mapping[str, Any], *, port: int) -> None:
        self.log_file = folder / "shipper.log"
        self.ends = Counter[str]()  # by signal
        self.peak_bytes = 0  # resident, of all processes so far
        self._config = folder / "shipper.yaml"
        self._state_dir = str(config["service"]["state_dir"])
        self.configure(config)
        self._url = f"http://127.0.0.1:{port}"
        self._process: asyncio.subprocess.Process | None = None
        self._is_wanted = False
        self.was_ready = False  # this process
        self._blind = [(-FOR_EVER, FOR_EVER)]  # spans of time.monotonic(); the last one may have no end yet

    def __repr__(self) -> str:
        return f"<Daemon of {self._config}>"

    def configure(self, config: Mapping[str, Any]) -> None:
        """For the next start, or for `hang_up`."""
        new = self._config.with_suffix(".new")
        new.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        new.replace(self._config)  # as a ConfigMap's change is: a start meanwhile reads the one or the other

    def hang_up(self) -> bool:
        """SIGHUP, where there is somebody who hears it."""
        if not (self._is_wanted and self.was_ready and self.is_running) or self._process is None:
            return False
        self._process.send_signal(signal.SIGHUP)
        now = time.monotonic()
        self._blind.insert(-1, (now - RELOADED_S, now + RELOADED_S))
        return True

    def blind_spans(self) -> list[tuple[float, float]]:
        """When nobody looked, or what was seen may have died with who saw it (time.monotonic())."""
        merged: list[tuple[float, float]] = []
        for span in sorted(self._blind):
            last = merged.pop() if merged and span[0] <= merged[-1][1] else span
            merged.append((last[0], max(last[1], span[1])))
        return merged

    def _is_blind(self, since: float) -> None:
        """Until it is ready."""
        if self._blind[-1][1] != FOR_EVER:
            self._blind.append((since, FOR_EVER))

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Returns at once."""
        with self.log_file.open("ab") as log:
            command = (sys.executable, "-m", "shipper", "run", str(self._config))
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        self._is_wanted, self.was_ready = True, False

    async def bring_back(self) -> None:
        """Whatever was being done to it: one process runs, or begins to."""
        if not self._is_wanted and self.is_running:
            await self.kill()
        if not self.is_running:
            await self.start()

    async def ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not await self.is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise Ended(f"it was not ready within {START_S:g} s")
            await asyncio.sleep(POLL_S)

    async def is_ready(self) -> bool:
        """Whether it has looked at all that is on disk."""
        process = self._process
        is_ready = await self._get("/readyz") is not None
        is_news = is_ready and process is self._process and not self.was_ready
        if is_news and self._blind[-1][1] == FOR_EVER:
            self._blind[-1] = self._blind[-1][0], time.monotonic() + WATCHES_S
        self.was_ready = self.was_ready or is_news
        return is_ready

    def check(self) -> None:
        """Raises Ended when it has ended by itself."""
        if self._is_wanted and not self.is_running:
            code = self._process.returncode if self._process else None
            raise Ended(f"it ended by itself, with exit code {code}:\n{self.tail()}")

    async def kill(self) -> None:
        """SIGKILL."""
        if self.is_running and self._process is not None:
            self._is_wanted = False
            self._is_blind(time.monotonic() - COMMITTED_S)
            self._process.kill()
            self.ends["SIGKILL"] += 1
            await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM. Raises Ended when its exit code is not right, or does not come in time."""
        assert self._process is not None
        self.check()
        self._is_wanted = False
        self._is_blind(time.monotonic())
        ended_well = ENDED_WELL if await self._get("/healthz") else (*ENDED_WELL, -signal.SIGTERM)
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                code = await self._process.wait()
        except TimeoutError:
            await self.kill()
            raise Ended(f"it did not end within {STOP_S:g} s of SIGTERM:\n{self.tail()}") from None
        self.ends["SIGTERM"] += 1
        if code not in ended_well:
            raise Ended(f"SIGTERM ended it with exit code {code}:\n{self.tail()}")

    def tail(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-3000:]

    def holds(self, files: Iterable[Path]) -> bool:
        """Whether it has these open, under whatever name."""
        if not self.is_running or self._process is None:
            return False
        open_now = set()
        for link in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with suppress(OSError):
                found = link.stat()
                open_now.add((found.st_dev, found.st_ino))
        return all((found.st_dev, found.st_ino) in open_now for found in map(Path.stat, files))

    async def sample_memory(self) -> None:
        """Endless; keeps the highest."""
        while True:
            if self.is_running and self._process is not None:
                with suppress(OSError):
                    self.peak_bytes = max(self.peak_bytes, _peak_bytes(self._process.pid))
            await asyncio.sleep(SAMPLE_S)

    # -- what it says -------------------------------------------------------------------------------------------------

    async def accounts(self) -> list[dict[str, Any]] | None:
        """The ledger of the process, live; None while it does not answer."""
        body = await self._get("/api/v1/audit")
        return None if body is None else orjson.loads(body)["accounts"]

    async def _get(self, path: str) -> bytes | None:
        try:
            timeout = aiohttp.ClientTimeout(5)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._url + path) as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def audit(self) -> tuple[int, dict[str, Any]]:
        """`shipper audit`: its exit code, and the ledger that is committed."""
        code, out = await self._command("audit", "--state-dir", self._state_dir, "--json")
        return code, orjson.loads(out) if out else {"accounts": [], "problems": ["no state"]}

    async def _command(self, *arguments: str) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shipper", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(COMMAND_S):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out


def _peak_bytes(pid: int) -> int:
    """The most memory that was resident so far. 0 for one that has ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
