"""What happened below a folder is told by its path; no folder is left unwatched, whatever becomes of it."""

import asyncio
import errno
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.inputs.tail import watch
from shipper.inputs.tail.inotify import _OVERFLOW, Batch, Change, Event, Inotify, parse_event, split_events
from shipper.inputs.tail.watch import changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/pod/app").mkdir(parents=True)
    return tmp_path / "root"


def told(watched: Inotify, root: Path) -> set[tuple[str, str]]:
    changes = (each for each in watched.read() if each[0] != Change.begun)
    return {(change.name, os.path.relpath(path, root)) for change, path in changes}


def begun(watched: Inotify, root: Path) -> set[str]:
    """Files that are new, and hold something now."""
    return {os.path.relpath(path, root) for change, path in watched.read() if change == Change.begun}


@pytest.fixture
def watched(root: Path) -> Iterator[Inotify]:
    made = Inotify(str(root), recursive=True)
    yield made
    made.close()


def test_growth_creation_renaming_and_deletion_are_told(watched: Inotify, root: Path) -> None:
    path = root / "pod/app/0.log"
    path.write_bytes(b"x")
    assert told(watched, root) == {("added", "pod/app/0.log"), ("modified", "pod/app/0.log")}
    with path.open("ab") as file:
        for _ in range(100):
            os.write(file.fileno(), b"x")
    assert told(watched, root) == {("modified", "pod/app/0.log")}
    path.rename(root / "pod/app/0.log.1")
    assert told(watched, root) == {("deleted", "pod/app/0.log"), ("added", "pod/app/0.log.1")}
    (root / "pod/app/0.log.1").unlink()
    assert told(watched, root) == {("deleted", "pod/app/0.log.1")}
    assert told(watched, root) == set()


def test_first_bytes_of_a_file_that_came_are_told_once_under_the_name_that_it_has_by_then(
    watched: Inotify, root: Path, tmp_path: Path
) -> None:
    path, rotated = root / "pod/app/0.log", root / "pod/app/0.log.1"
    path.touch()
    assert begun(watched, root) == set()
    path.write_bytes(b"x")
    assert begun(watched, root) == {"pod/app/0.log"}
    path.rename(rotated)
    rotated.rename(path)
    with path.open("ab") as file:
        file.write(b"x")
    assert begun(watched, root) == set()
    path.unlink()
    (tmp_path / "empty").touch()
    (tmp_path / "empty").rename(path)
    path.rename(rotated)
    rotated.write_bytes(b"x")
    assert begun(watched, root) == {"pod/app/0.log.1"}


def test_a_file_that_comes_holds_something_and_goes_is_told(watched: Inotify, root: Path) -> None:
    path = root / "pod/app/0.log"
    path.write_bytes(b"x")
    path.unlink()
    assert begun(watched, root) == {"pod/app/0.log"}
    path.touch()
    path.unlink()
    assert begun(watched, root) == set()


def test_what_lies_in_new_folders_is_watched_though_it_came_before_the_watch(watched: Inotify, root: Path) -> None:
    (root / "new/deep/er").mkdir(parents=True)
    assert {path for _, path in told(watched, root)} == {"new", "new/deep", "new/deep/er"}
    (root / "new/deep/er/0.log").write_bytes(b"x")
    assert ("modified", "new/deep/er/0.log") in told(watched, root)


def test_a_renamed_folder_is_watched_under_its_new_name(watched: Inotify, root: Path) -> None:
    (root / "pod").rename(root / "other")
    assert {("deleted", "pod"), ("added", "other"), ("added", "other/app")} <= told(watched, root)
    (root / "other/app/0.log").write_bytes(b"x")
    assert told(watched, root) == {("added", "other/app/0.log"), ("modified", "other/app/0.log")}


def test_a_folder_that_was_moved_away_is_not_watched_any_more(watched: Inotify, root: Path, tmp_path: Path) -> None:
    (root / "pod").rename(tmp_path / "elsewhere")
    told(watched, root)
    (tmp_path / "elsewhere/app/0.log").write_bytes(b"x")
    assert told(watched, root) == set()


def test_a_folder_that_comes_again_is_watched_again(watched: Inotify, root: Path) -> None:
    for _ in range(3):
        (root / "pod/app").rmdir()
        told(watched, root)
        (root / "pod/app").mkdir()
        told(watched, root)
        (root / "pod/app/0.log").write_bytes(b"x")
        assert ("modified", "pod/app/0.log") in told(watched, root)
        (root / "pod/app/0.log").unlink()


def test_the_end_of_the_root_is_told(watched: Inotify, root: Path) -> None:
    for folder in ("pod/app", "pod", "."):
        (root / folder).rmdir()
    assert (Change.deleted, str(root)) in watched.read()


def test_lost_events_are_a_look_at_everything_and_no_folder_stays_unwatched(watched: Inotify, root: Path) -> None:
    (root / "unheard").mkdir()
    os.read(watched.fileno(), 4096)  # as if the queue had been full
    batch: Batch = set()
    watched._take(struct.pack("iIII", -1, _OVERFLOW, 0, 0), batch)
    assert batch == {(Change.added, str(root))}
    (root / "unheard/0.log").write_bytes(b"x")
    assert ("modified", "unheard/0.log") in told(watched, root)


def test_links_that_go_round_are_followed_once(root: Path) -> None:
    (root / "pod/round").symlink_to(root, target_is_directory=True)
    watched = Inotify(str(root), recursive=True)
    (root / "pod/app/0.log").write_bytes(b"x")
    assert told(watched, root) == {("added", "pod/app/0.log"), ("modified", "pod/app/0.log")}
    watched.close()


def test_only_the_folder_itself_is_watched_unless_it_is_asked_for_more(root: Path) -> None:
    watched = Inotify(str(root), recursive=False)
    (root / "pod/app/0.log").write_bytes(b"x")
    (root / "a.log").write_bytes(b"x")
    assert told(watched, root) == {("added", "a.log"), ("modified", "a.log")}
    watched.close()


def test_names_of_any_bytes_come_back_as_the_file_system_has_them(watched: Inotify, root: Path) -> None:
    name = os.fsdecode(b"\xff\xfe \xc3\xa4.log")
    (root / name).write_bytes(b"x")
    assert ("added", name) in told(watched, root)


def test_a_root_that_is_no_folder_or_not_there_is_an_error_and_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("file", "missing"):
        with pytest.raises(FileNotFoundError):
            Inotify(str(tmp_path / name), recursive=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_several_events_of_one_read_are_taken_apart() -> None:
    first = b"\x01\0\0\0" + b"\x02\0\0\0" + b"\0\0\0\0" + b"\x10\0\0\0" + b"0.log".ljust(16, b"\0")
    second = b"\x02\0\0\0" + b"\0\x04\0\0" + b"\0\0\0\0" + b"\0\0\0\0"
    assert list(map(parse_event, split_events(first + second))) == [Event(1, 0x2, "0.log"), Event(2, 0x400, "")]


async def test_no_more_watches_is_said_and_raised(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> Inotify:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shipper.inputs.tail.watch.Inotify", refuse)
    with pytest.raises(OSError, match="No space"):
        await anext(changes(str(root), recursive=True))
    assert "polled instead" in caplog.text


async def test_the_first_batch_says_that_the_watch_stands_and_the_next_comes_at_once(root: Path) -> None:
    batches = changes(str(root), recursive=True)
    assert await anext(batches) == set()
    (root / "a.log").write_bytes(b"x")
    assert (Change.modified, f"{root}/a.log") in await anext(batches)
    await batches.aclose()


async def test_what_goes_on_is_told_of_without_a_wait_for_each_event(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Inotify] = []
    has_news = watch._has_news

    async def counted(watched: Inotify) -> None:
        waits.append(watched)
        await has_news(watched)

    monkeypatch.setattr(watch, "_has_news", counted)
    monkeypatch.setattr(watch, "GATHER_S", 0.0)
    batches = changes(str(root), recursive=True)
    await anext(batches)
    for number in range(5):
        (root / f"{number}.log").write_bytes(b"x")
        assert (Change.modified, f"{root}/{number}.log") in await anext(batches)
    assert len(waits) == 1
    following = asyncio.ensure_future(anext(batches))  # noqa: TID251
    while len(waits) < 2:
        await asyncio.sleep(0)
    (root / "5.log").write_bytes(b"x")
    assert (Change.modified, f"{root}/5.log") in await following
    await batches.aclose()


async def test_a_root_that_is_not_there_ends_without_a_word(tmp_path: Path) -> None:
    assert [batch async for batch in changes(str(tmp_path / "missing"), recursive=True)] == []


def test_a_system_without_inotify_is_an_error_of_the_system(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    with pytest.raises(OSError, match="not implemented"):
        Inotify(str(root), recursive=True)


# -- events that are told in the same bytes ---------------------------------------------------------------------------


class Forgetful(dict[bytes, tuple[Change, str]]):
    """Every event is new to it."""

    def __setitem__(self, raw: bytes, meaning: tuple[Change, str]) -> None: ...


def write(root: Path, name: str) -> None:
    with (root / name).open("ab") as file:
        file.write(b"x")


def exchange(root: Path, name: str) -> None:
    """As a rotation does."""
    if (root / name).exists():
        (root / name).rename(root / f"{name}.1")
    (root / name).touch()


def move_folder(root: Path, name: str) -> None:
    """Its watch goes, and a new one comes where it is found again."""
    (root / name).parent.rename(root / "elsewhere")
    (root / "elsewhere").rename((root / name).parent)


def delete(root: Path, name: str) -> None:
    (root / name).unlink(missing_ok=True)


STEPS = st.tuples(
    st.sampled_from((write, write, write, exchange, delete, move_folder, None)), st.sampled_from(("a/0.log", "b/0.log"))
)


@given(steps=st.lists(STEPS, max_size=25))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_event_that_was_met_before_means_what_it_would_mean_anew(
    tmp_path: Path, steps: list[tuple[Callable[[Path, str], None] | None, str]]
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        root = Path(name)
        for folder in ("a", "b"):
            (root / folder).mkdir()
        watches = Inotify(name, recursive=True), Inotify(name, recursive=True)
        watches[1]._lines = Forgetful()
        for step, file in [*steps, (None, "")]:
            if step is not None:
                step(root, file)
            else:
                first, second = (watch.read() for watch in watches)
                assert first == second
        for watch in watches:
            watch.close()


def test_a_line_more_is_not_parsed_again(watched: Inotify, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        write(root, "pod/app/0.log")
        watched.read()
    monkeypatch.setattr("shipper.inputs.tail.inotify.parse_event", lambda _: pytest.fail("it is"))
    write(root, "pod/app/0.log")
    assert told(watched, root) == {("modified", "pod/app/0.log")}
