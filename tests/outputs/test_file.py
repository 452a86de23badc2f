"""Files: every record once, in order, whatever breaks."""

import asyncio
import gzip
import os
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.errors import Disconnected
from shipper.outputs import file as file_module
from shipper.outputs.file import FileConfig, FileOutput, RotateConfig
from shipper.template import Template
from tests.fakes.host import FakeHost, State, batch_of, documents


def make_output(folder: Path, **settings_: Any) -> FileOutput:
    return FileOutput(FileConfig(path=Template.parse(f"{folder}/out/{{namespace}}.ndjson"), **settings_))


@asynccontextmanager
async def running(output: FileOutput, folder: Path, state: State | None = None) -> AsyncIterator[FakeHost]:
    host = FakeHost(folder / "state", output, state)
    await output.start(host)
    try:
        yield host
    finally:
        await output.close()


async def test_documents_are_appended_by_path_in_order(tmp_path: Path) -> None:
    shop, bank = tmp_path / "out/shop.ndjson", tmp_path / "out/deeper/bank.ndjson"
    output = make_output(tmp_path)
    async with running(output, tmp_path) as host:
        await host.send(
            batch_of((str(shop), documents(0, 2)), (str(bank), documents(2, 2)), (str(shop), documents(4, 2)))
        )
        await host.send(batch_of((str(shop), documents(6, 1))))
    assert shop.read_bytes() == b"".join([*documents(0, 2), *documents(4, 3)])
    assert bank.read_bytes() == b"".join(documents(2, 2))


async def test_gzip_files_grow_by_members(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson.gz"
    output = make_output(tmp_path, compression="gzip")
    async with running(output, tmp_path) as host:
        for number in range(3):
            await host.send(batch_of((str(path), documents(number, 1))))
    assert gzip.decompress(path.read_bytes()) == b"".join(documents(0, 3))


async def test_what_was_in_a_file_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"theirs\n")
    output = make_output(tmp_path)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((str(path), documents(0, 1))))
    async with running(make_output(tmp_path), tmp_path, host.state) as host:
        pass
    assert path.read_bytes() == b"theirs\n"
    async with running(make_output(tmp_path), tmp_path, host.state) as host:
        await host.send(batch_of((str(path), documents(0, 1))))
    assert path.read_bytes() == b"theirs\n" + documents(0, 1)[0]


async def test_files_are_set_aside_when_large(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    size = len(documents(0, 1)[0])
    output = make_output(tmp_path, rotate=RotateConfig(max_bytes=size, keep=2))
    async with running(output, tmp_path) as host:
        for number in range(5):
            await host.send(batch_of((str(path), documents(number, 1))))
    found = {p.name: p.read_bytes() for p in tmp_path.glob("x.*")}
    assert found == {
        "x.ndjson": documents(4, 1)[0],
        "x.ndjson.1": documents(3, 1)[0],
        "x.ndjson.2": documents(2, 1)[0],
    }


async def test_a_file_that_somebody_renamed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    output = make_output(tmp_path)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((str(path), documents(0, 1))))
        path.rename(tmp_path / "old")
        await host.send(batch_of((str(path), documents(1, 1))))
        path.unlink()
        await host.send(batch_of((str(path), documents(2, 1))))
        host.commit()
    assert (tmp_path / "old").read_bytes() == documents(0, 1)[0]
    assert path.read_bytes() == documents(2, 1)[0]


async def test_a_file_that_somebody_emptied_is_written_from_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    output = make_output(tmp_path)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((str(path), documents(0, 1))))
        os.truncate(path, 0)
        with pytest.raises(Disconnected, match="shorter"):
            await host.send(batch_of((str(path), documents(1, 1))))
        await host.send(batch_of((str(path), documents(1, 1))))
    assert path.read_bytes() == documents(1, 1)[0]


async def test_a_path_that_cannot_be_written_is_tried_again_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    output = make_output(tmp_path)
    async with running(output, tmp_path) as host:
        with pytest.raises(Disconnected, match="cannot write") as raised:
            await host.send(batch_of((f"{tmp_path}/out/shop.ndjson", documents(0, 1))))
        assert raised.value.reason == "disk"
        assert not raised.value.ambiguous
    (finding,) = await output.check()
    assert not finding.ok


@pytest.mark.parametrize("name", ["x" * 300, "\ud800"])
async def test_names_that_no_file_can_have_are_made_valid(name: str, tmp_path: Path) -> None:
    output = make_output(tmp_path)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((f"{tmp_path}/out/{name}", documents(0, 1))))
    (path,) = (tmp_path / "out").iterdir()
    assert path.read_bytes() == documents(0, 1)[0]


async def test_lengths_of_the_least_recently_used_files_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "MAX_KNOWN", 2)
    output = make_output(tmp_path)
    async with running(output, tmp_path) as host:
        for number in (0, 1, 2, 0):
            await host.send(batch_of((f"{tmp_path}/{number}", documents(number, 1))))
        host.commit()
        assert set(host.state.rows) == {f"{tmp_path}/2", f"{tmp_path}/0"}
    assert (tmp_path / "0").read_bytes() == documents(0, 1)[0] * 2


async def test_check_says_whether_files_can_be_written(tmp_path: Path) -> None:
    (finding,) = await make_output(tmp_path).check()
    assert finding.ok
    assert str(tmp_path / "out") in finding.what


ACTIONS = st.sampled_from(["send", "send", "commit", "crash", "cancel", "hold commits", "release commits"])


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(ACTIONS, max_size=25), compress=st.booleans(), rotates=st.booleans(), seed=st.integers(0, 2**16)
)
def test_each_record_is_in_a_file_once_whatever_breaks(
    actions: list[str], compress: bool, rotates: bool, seed: int
) -> None:
    """A crash keeps what was written, and forgets what was not committed."""
    randomness = random.Random(seed)

    def next_batch(host: FakeHost) -> Any:
        first = len(host.live.confirmed)
        return batch_of((f"{host.state_dir}/../out", documents(first, randomness.randrange(1, 5))))

    async def scenario(folder: Path) -> None:
        def output() -> FileOutput:
            rotate = RotateConfig(max_bytes=200, keep=1000) if rotates else None
            return make_output(folder, compression="gzip" if compress else "none", rotate=rotate)

        host = FakeHost(folder / "state", output())
        await host.output.start(host)
        for action in actions:
            if action == "commit":
                host.commit()
            elif action in ("hold commits", "release commits"):
                host.holds.clear() if action.startswith("hold") else host.holds.set()
            elif action == "crash":
                await host.output.close()
                host = FakeHost(folder / "state", output(), host.state)
                await host.output.start(host)
            else:
                try:
                    async with asyncio.timeout(0.01 if action == "send" else 0):
                        await host.send(next_batch(host))
                except TimeoutError:
                    continue
        host.holds.set()
        await host.send(next_batch(host))
        host.commit()
        await host.output.close()

        newest_last = sorted(folder.glob("out*"), key=lambda p: -int(p.suffix[1:] or 0) if p.suffix else 1)
        content = b"".join(p.read_bytes() for p in newest_last)
        assert (gzip.decompress(content) if compress else content) == b"".join(host.state.confirmed)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "state").mkdir()
        asyncio.run(scenario(Path(folder)))
