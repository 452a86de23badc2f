"""A simulated node for some seconds, and the shipper on it: what was written, what arrived where, that nothing is lost.

    python -m benchmarks.demo [--seconds 12]

By default documents go to files; ELASTICSEARCH_URL, S3_ENDPOINT and S3_BUCKET send them to real servers (see
benchmarks/demo/destinations.py).
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import yaml

from benchmarks.demo.destinations import Destination, choose_destinations
from benchmarks.demo.node import NAME, Node, is_archived, live
from benchmarks.demo.progress import Progress
from benchmarks.world.account import Account
from benchmarks.world.check import Checker, Verdict
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.ports import free_port

CONFIG = Path(__file__).parents[2] / "config" / "demo.yaml"
CATCH_UP_S = 15.0
STOP_S = 25.0


@asynccontextmanager
async def run_daemon(
    config: Path, folder: Path, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The shipper as a process of its own; whatever happens, it is gone in the end."""
    with (folder / "shipper.log").open("wb") as log:
        command = (sys.executable, "-m", "shipper", "run", str(config))
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def set_up(config: Path, environment: dict[str, str]) -> None:
    """What a person does before the first record: without the index template, labels of these very pods collide."""
    print(f"shipper setup {config}", flush=True)
    command = (sys.executable, "-m", "shipper", "setup", str(config))
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment)
    if await process.wait():
        raise SystemExit("demo: FAILED, the destination could not be set up")


async def stop(process: asyncio.subprocess.Process) -> int:
    """Its exit code; that of SIGKILL when SIGTERM does not end it in time."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


def write_config(path: Path, destinations: tuple[Destination, ...]) -> Path:
    """The file that ships with the project, with outputs replaced where real servers are named."""
    replacements = [destination.output() for destination in destinations]
    if not any(replacements):
        return CONFIG
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["outputs"] = [new or old for new, old in zip(replacements, config["outputs"], strict=True)]
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


async def demo(folder: Path, seconds: float) -> bool:
    """Returns whether everything arrived."""
    api, port = FakeKubernetesApi(), free_port()
    await api.start()
    node = Node(folder / "pods", api, seed=1)
    destinations = choose_destinations(folder / "out", run=time.strftime("%Y%m%d-%H%M%S"))
    config = write_config(folder / "demo.yaml", destinations)
    environment = {"PODS_DIR": str(folder / "pods"), "OUT_DIR": str(folder / "out"), "STATE_DIR": str(folder / "state")}
    environment |= {"KUBERNETES_URL": api.url, "HTTP_PORT": str(port), "NODE_NAME": NAME}
    print(f"{len(node.kubelet.pods)} pods write to {folder}/pods", flush=True)
    if config != CONFIG:
        await set_up(config, environment)
    print(f"shipper run {config}", flush=True)
    async with run_daemon(config, folder, environment) as process, aiohttp.ClientSession() as session:
        progress = Progress(session, f"http://127.0.0.1:{port}/metrics")
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(live(node, seconds))
            await progress.show(until=lambda: writing.done() or process.returncode is not None)
            writing.cancel()  # the daemon may have failed before
        await progress.catch_up(limit_s=CATCH_UP_S, alive=lambda: process.returncode is None)
        code = await stop(process)
    await api.stop()
    account = node.kubelet.account()
    account.save(folder / "account.json")
    return await summarize(account, destinations, folder, code)


async def summarize(account: Account, destinations: tuple[Destination, Destination], folder: Path, code: int) -> bool:
    """Judges what arrived, and says it."""
    everything, archive = destinations
    verdict, document = await check(everything, account)
    archived, _ = await check(archive, account.where(is_archived))
    if document:
        print(f"\none document:\n{orjson.dumps(orjson.loads(document), option=orjson.OPT_INDENT_2).decode()}")
    size = f"{account.bytes / 2**20:.1f} MiB"
    print(f"\nwritten: {account.records:,} records of {len(account.containers)} containers, {size}")
    show(everything, verdict)
    show(archive, archived)
    print(f"logs, state, and the daemon's own log: {folder}")
    if code != 0:
        print(f"shipper ended with exit code {code}:\n{(folder / 'shipper.log').read_text(encoding='utf-8')[-3000:]}")
    ok = code == 0 and verdict.ok and archived.ok
    print("demo: DONE, every record arrived once" if ok else "demo: FAILED, see above")
    return ok


async def check(destination: Destination, account: Account) -> tuple[Verdict, bytes]:
    """Every document of the destination, judged; and one of them to show, if there is one."""
    checker, sample = Checker(account, by_id=True, by_time=True, labels=True), b""
    async for identity, document in destination.documents():
        checker.feed([(identity, document)])
        sample = sample or document
    return checker.verdict(), sample


def show(destination: Destination, verdict: Verdict) -> None:
    namespaces = ", ".join(f"{name} {count:,}" for name, count in sorted(verdict.by_namespace.items()))
    print(f"{destination.name}: {verdict.documents:,} delivered ({namespaces}), {verdict.lost:,} lost")
    print(f"  look at {destination.place}")
    if not verdict.ok:
        print(verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12, help="how long pods write")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="shipper-demo-"))
    raise SystemExit(0 if asyncio.run(demo(folder, options.seconds)) else 1)


if __name__ == "__main__":
    main()
