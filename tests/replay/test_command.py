"""`shipper replay` as a process: what it prints, and the exit codes that scripts rely on."""

import asyncio
import io
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from shipper.replay import show
from shipper.replay.archive import Tally
from tests.replay.documents import document, documents, packed


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch(numbers=frozenset({"n"})) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, fake: FakeElasticsearch) -> Path:
    path = tmp_path / "shipper.yaml"
    whole = {
        "service": {"state_dir": str(tmp_path / "state"), "http": False},
        "inputs": [{"type": "tail", "path": ["/logs/*.log"]}],
        "outputs": [
            {"type": "elasticsearch", "name": "es", "hosts": [fake.url], "index": "logs-{namespace}-default"},
            {"type": "stdout"},
        ],
    }
    path.write_bytes(orjson.dumps(whole))
    return path


async def start(config: Path, *arguments: object) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "shipper", "replay", *map(str, arguments), "--config", str(config)]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)


async def run(config: Path, *arguments: object) -> Done:
    process = await start(config, *arguments)
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def test_it_says_what_was_sent_and_what_was_there(config: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.gz"
    copy.write_bytes(packed(documents(1, 2)))
    first = await run(config, copy, "--to", "es")
    assert (first.code, first.err) == (0, "")
    assert first.out == "1 objects, 2 records: 2 were sent, 0 were there already, 0 were refused\n"
    copy.write_bytes(packed(documents(1, 2, 3)))
    rehearsed = await run(config, copy, "--to", "es", "--dry-run")
    assert rehearsed.out == "1 objects, 3 records: 1 would be sent, 2 were there already, 0 were refused\n"
    second = await run(config, copy, "--to", "es")
    assert second.out == "1 objects, 3 records: 1 were sent, 2 were there already, 0 were refused\n"


async def test_what_was_refused_is_exit_code_3_and_what_is_damaged_is_1(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "a.gz").write_bytes(packed([document(1, n=1), document(2, n="one")]))
    refused = await run(config, folder, "--to", "es")
    assert refused.code == 3
    assert "1 were sent, 0 were there already, 1 were refused" in refused.out
    (folder / "b.gz").write_bytes(packed(documents(3))[:-4])
    damaged = await run(config, folder, "--to", "es")
    assert damaged.code == 1
    assert "1 objects could not be used\n  b.gz: its gzip is damaged" in damaged.out
    nowhere = await run(config, folder, "--to", "ess")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert nowhere.err == "shipper: there is no output ess in this configuration; there are es, stdout\n"


async def test_chosen_documents_are_printed_where_the_output_is_standard_output(config: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.gz"
    copy.write_bytes(packed([*documents(1), *documents(2, namespace="bank")]))
    done = await run(config, copy, "--to", "stdout", "--namespace", "bank")
    printed, _, summary = done.out.partition("\n")
    assert orjson.loads(printed)["message"] == "line 2"
    assert "1 records of another time or namespace" in summary


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
async def test_it_can_be_stopped_at_any_time_and_goes_on(
    config: Path, tmp_path: Path, fake: FakeElasticsearch, how: signal.Signals
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.gz").write_bytes(packed(documents(*range(number * 10, number * 10 + 10))))
    fake.faults.script("applied_then_hang")
    process = await start(config, folder, "--to", "es")
    while not fake.requests:
        await asyncio.sleep(0.01)
    process.send_signal(how)
    out, _ = await process.communicate()
    assert process.returncode == 130
    assert "records: 0 were sent" in out.decode()
    fake.roll_over("logs-shop-default")
    done = await run(config, folder, "--to", "es")
    assert done.code == 0, done
    assert len(fake.ids) == 30
    assert set(fake.ids.values()) == {1}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_run_without_a_terminal_tells_in_lines_and_with_one_in_a_bar() -> None:
    tally = Tally(objects=4, bytes=400, done_objects=1, done_bytes=100, sent=1200, present=34)
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        progress = show.Progress(stream)
        progress._told_at = progress._began = 0.0
        progress(tally)
        progress(tally)
        progress.end(tally)
    assert plain.getvalue().count("\n") == 1
    assert plain.getvalue().startswith("1 of 4 objects, 1,234 records (")
    assert "\r[#######-----------------------]  25% 1 of 4 objects" in terminal.getvalue()
