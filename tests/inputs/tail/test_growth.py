"""What is sooner done where files have only grown comes to the same as looking for whatever may have happened."""

import asyncio
import gzip
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper import native
from shipper.inputs.tail import catalog, ends
from shipper.inputs.tail.catalog import Catalog
from shipper.inputs.tail.files import PlainFile
from shipper.inputs.tail.identity import FINGERPRINT_BYTES
from shipper.inputs.tail.watch import Change
from tests.inputs.tail.reader import Reader, line, make_input

NAMES = ("0.log", "1.log", "0.log.20261121-100000", "0.log.20261121-100010")
LONG = "x" * 600  # two of such lines are a whole head
Step = tuple[str, str, int]

USUAL = ("append, event", "append, event", "append, scan", "rewrite, event", "rewrite, scan")
UNUSUAL = ("append", "rewrite", "cut, event", "cut", "rotate, scan", "rotate, event", "pack, scan", "delete", "block")
STEPS = st.tuples(
    st.sampled_from((*USUAL, *USUAL, *UNUSUAL)), st.sampled_from((*NAMES[:1] * 4, *NAMES)), st.integers(0, 3)
)


def write(path: Path, mode: str, number: int, count: int) -> None:
    with path.open(mode) as file:
        for i in range(count):
            file.write(line(10 * number + i, LONG if number % 4 else "short"))


def act(folder: Path, step: Step, number: int) -> None:
    what, name, count = step
    what = what.partition(",")[0]
    path = folder / name
    if what == "append":
        write(path, "ab", number, count)
    elif not path.exists():
        return
    elif what == "rewrite":  # in place: the same inode
        write(path, "r+b", number, count + 1)
    elif what == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif what == "rotate":
        path.rename(folder / NAMES[2 + count % 2])
        write(folder / "0.log", "ab", number, 1)
    elif what == "pack":
        (folder / f"{NAMES[2]}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    elif what == "delete":
        path.unlink()


async def follow(steps: Sequence[Step]) -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pods" / "shop_cart-1_uid-1" / "app"
        folder.mkdir(parents=True)
        reader = Reader()
        tail = make_input(reader, folder.parents[1] / "*/*/*.log", rescan=3600)
        write(folder / "0.log", "ab", 90, 2)
        await tail.rescan()
        for number, step in enumerate(steps):
            act(folder, step, number)
            if step[0].endswith("scan"):
                await tail.rescan()
            elif step[0].endswith("event"):
                await tail.handle({(Change.modified, str(folder / each)) for each in NAMES}, since=0)
            elif step[0] == "block":
                reader.is_reading = step[2] == 0
        for _ in range(3):
            await tail.rescan()
        reader.read_all()
        reader.check()
        told = [
            (
                Path(g.path).name,
                g.size,
                g.is_final,
                g.is_deleted,
                g.is_doubtful,
                g.gone_at is None,
                g.fingerprint,
                g.seen and (Path(g.seen.path).name, g.seen.size),
                reader.read.get(g.id, b""),
            )
            for g in reader.generations
        ]
        for generation in reader.generations:
            generation.close()
        return told, reader.losses


def look_at_none(generations: Any) -> Any:
    return (), list(generations)


@given(st.lists(STEPS, min_size=2, max_size=16))
@settings(max_examples=120, deadline=None)
def test_what_has_only_grown_is_taken_as_any_other(steps: Sequence[Step]) -> None:
    soon = asyncio.run(follow(steps))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "has_only_grown", lambda *_: False)
        patch.setattr(catalog, "look_at_ends", look_at_none)
        assert asyncio.run(follow(steps)) == soon


# -- by name ----------------------------------------------------------------------------------------------------------


async def test_a_scan_of_files_that_have_only_grown_decides_nothing(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tmp_path / "a.log"
    live.write_bytes(b"one\n")
    tail = make_input(reader, tmp_path / "*.log")
    await tail.rescan()
    monkeypatch.setattr(tail.catalog, "reconcile", None)
    with live.open("ab") as file:
        file.write(b"two\n")
    await tail.rescan()
    assert reader.contents == [b"one\ntwo\n"]


@pytest.mark.skipif(native.MODULE is None, reason=f"the native module is not used: {native.WHY_NOT}")
async def test_ends_of_many_files_are_read_in_one_call_and_kept_within_bounds(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.MODULE is not None
    assert native.MODULE.HEAD_BYTES == FINGERPRINT_BYTES
    paths = [tmp_path / f"{i:02}.log" for i in range(20)]
    for path in paths:
        path.write_bytes(b"x" * 1100 + b"\n")
    tail = make_input(reader, tmp_path / "*.log")
    await tail.rescan()
    batch = {(Change.modified, str(path)) for path in paths}
    reader.is_reading = False
    for news in (b"first\n", b"second\n"):  # of the first, the marks of their heads are taken
        for path in paths:
            with path.open("ab") as file:
                file.write(news)
        await tail.handle(batch, since=0)
    assert {generation.news for generation in reader.generations} == {(1107, b"second\n")}
    monkeypatch.setattr(ends, "ALL_NEWS_BYTES", 30)
    monkeypatch.setattr(PlainFile, "read", None)
    for path in paths:
        with path.open("ab") as file:
            file.write(b"0123456789")
    await tail.handle(batch, since=0)
    assert {generation.size for generation in reader.generations} == {1124}
    assert sorted(g.news is not None for g in reader.generations) == [False] * 17 + [True] * 3
    await tail.handle(set(), since=0)
    assert all(generation.news is None for generation in reader.generations)
