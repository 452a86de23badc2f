"""`shipper` as a process: started, watched, stopped and killed by tests."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

PATIENCE_S = 200.0  # for what comes in a second where the machine is quiet: only a failure waits so long
POLL_S = 0.02
PENDING = ("pending", "spooled", "lost")


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


class Daemon:
    """One configuration, and the processes that run it one after another. Its files are in `folder`."""

    def __init__(self, folder: Path, config: Mapping[str, Any], *, port: int, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.config = folder / "shipper.yaml"
        self.log_file = folder / "shipper.log"
        self.before: Sequence[str] = ()  # a command that starts the daemon, and its other commands
        self._url = f"http://127.0.0.1:{port}"
        self._environ = {**os.environ, **environ}
        self._process: asyncio.subprocess.Process | None = None
        self._service = {"state_dir": str(self.state_dir), "http": {"listen": f"127.0.0.1:{port}"}}
        self.configure(config)

    def __repr__(self) -> str:
        return f"<Daemon in {self.folder}>"

    def configure(self, config: Mapping[str, Any]) -> None:
        """What `service` does not say is added: where state and HTTP are."""
        whole = {**config, "service": {**self._service, **config.get("service", {})}}
        self.config.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")

    # -- the process --------------------------------------------------------------------------------------------------

    async def start(self, *options: str) -> None:
        """Returns at once: `eventually(...)` or `ready` tell when it has got somewhere."""
        assert not self.is_running, "it runs already"
        command = (*self.before, sys.executable, "-m", "shipper", "run", str(self.config), *options)
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, env=self._environ, stdout=log, stderr=log)

    async def once(self) -> int:
        """`run --once`; its exit code."""
        await self.start("--once")
        return await self.ended()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    def hang_up(self) -> None:
        """SIGHUP: it reads its configuration again."""
        self.process.send_signal(signal.SIGHUP)

    async def reloaded(self, config: Mapping[str, Any]) -> str:
        """Writes another configuration and has it read; "done", "unchanged" or "refused"."""
        self.configure(config)
        before = (await self.json("/api/v1/status"))["reload"]["last_at"]
        self.hang_up()
        deadline = self.deadline()
        while (said := (await self.json("/api/v1/status"))["reload"])["last_at"] == before:
            self.has_time(deadline, said)
            await asyncio.sleep(POLL_S)
        return str(said["last"]["result"])

    async def ended(self) -> int:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.process.wait()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"it did not end:\n{self.log()[-4000:]}") from None

    async def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.is_running:
            self.process.kill()
            await self.process.wait()

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def memory_bytes(self) -> int:
        """Resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak_memory_bytes(self) -> int:
        """The most that was resident since it began: who looks now and then does not see it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    @property
    def cpu_s(self) -> float:
        """Of all its threads, user and system, since it began."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def holds(self, files: Iterable[Path]) -> bool:
        """Whether it has these open, under whatever name."""
        open_now = set()
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                open_now.add(_identity(link))
        return all(_identity(file) in open_now for file in files)

    def log(self) -> str:
        """Everything that its processes wrote to stdout and stderr."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def log_lines(self, level: str) -> list[dict[str, Any]]:
        """Of its own log, those of one level (`error`)."""
        lines = [orjson.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["level"] == level]

    # -- what it says -------------------------------------------------------------------------------------------------

    async def get(self, path: str) -> tuple[int, str]:
        """(status, body); (0, reason) while nobody answers."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self._url + path) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError as exc:
            return 0, str(exc)

    def ask_at(self, port: int) -> None:
        """Where a test's own configuration has it listen."""
        self._url = f"http://127.0.0.1:{port}"

    async def post(self, path: str, *, token: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.post(self._url + path, headers=headers) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def json(self, path: str) -> Any:
        status, body = await self.get(path)
        assert status == 200, (path, status, body)
        return orjson.loads(body)

    async def metric(self, name: str, /, **labels: str) -> float:
        """Sum of the series with these labels; 0.0 while there is none."""
        _, body = await self.get("/metrics")
        series = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", body, re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for text, value in series if all(pair in text for pair in wanted))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looks until it holds."""
        deadline = self.deadline()
        while not condition():
            self.has_time(deadline)
            await asyncio.sleep(POLL_S)

    def deadline(self) -> float:
        """Until when a test that begins to wait now may do so; for `has_time`."""
        return time.monotonic() + PATIENCE_S

    def has_time(self, deadline: float, still: object = "") -> None:
        """Fails when it has ended, or the time is over; `still`: what is not as it should be."""
        assert self.is_running, f"it has ended:\n{self.log()[-4000:]}"
        assert time.monotonic() < deadline, f"the time is over: {still}\n{self.log()[-4000:]}"

    async def until_metric(self, name: str, at_least: float, /, **labels: str) -> None:
        """Looks until the metric is so high."""
        deadline = self.deadline()
        while (value := await self.metric(name, **labels)) < at_least:
            self.has_time(deadline, f"{name}{labels} is {value}, not {at_least}")
            await asyncio.sleep(POLL_S)

    async def ready(self) -> None:
        """Returns when /readyz says so."""
        deadline = self.deadline()
        while (answer := await self.get("/readyz"))[0] != 200:
            self.has_time(deadline, answer)
            await asyncio.sleep(POLL_S)

    async def caught_up(self, *outputs: str, seen_bytes: int = 0, patience_s: float = PATIENCE_S) -> None:
        """Returns when each of these outputs has delivered all that it knows of, and that is at least `seen_bytes`."""
        deadline = time.monotonic() + patience_s
        while True:
            answer = await self.get("/api/v1/audit")
            accounts = orjson.loads(answer[1])["accounts"] if answer[0] == 200 else []
            mine = {name: [a for a in accounts if a["output"] == name] for name in outputs}
            waiting = [a for found in mine.values() for a in found if a["pending"] + a["spooled"]]
            seen = {name: sum(a["seen"] for a in found) for name, found in mine.items()}
            if not waiting and all(size >= max(seen_bytes, 1) for size in seen.values()):
                return
            self.has_time(deadline, f"{seen} of {seen_bytes} bytes were seen, {waiting or 'all'} delivered")
            await asyncio.sleep(5 * POLL_S)

    # -- its commands -------------------------------------------------------------------------------------------------

    async def command(self, *arguments: str) -> Result:
        """`shipper` with these arguments; `CONFIG` stands for its configuration."""
        resolved = [str(self.config) if argument == "CONFIG" else argument for argument in arguments]
        process = await asyncio.create_subprocess_exec(
            *(*self.before, sys.executable, "-m", "shipper", *resolved),
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), err.decode())

    async def audit(self) -> list[dict[str, Any]]:
        """The ledger's accounts, which must add up."""
        result = await self.command("audit", "CONFIG", "--json")
        assert result.code == 0, result
        found = orjson.loads(result.out)
        assert found["problems"] == []
        assert found["accounts"], "the ledger is empty"
        accounts: list[dict[str, Any]] = found["accounts"]
        return accounts

    async def settled(self, *, but_for: Iterable[str] = ()) -> list[dict[str, Any]]:
        """The ledger adds up, and no byte is pending, spooled or lost, but in outputs `but_for`."""
        accounts = await self.audit()
        left = [a for a in accounts if any(a[fate] for fate in PENDING) and a["output"] not in but_for]
        assert left == []
        return accounts
