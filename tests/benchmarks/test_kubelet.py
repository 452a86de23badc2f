"""The simulated kubelet does what the real one does, in its order."""

import gzip
import os
import re
from pathlib import Path

import pytest

from benchmarks.world.applications import SEQ, Record
from benchmarks.world.clock import START_NS, Clock, cri_time
from benchmarks.world.kubelet import Kubelet, Pod, Settings
from benchmarks.world.life import WEIGHTS, Life
from benchmarks.world.rotation import Action, plan_rotation
from benchmarks.world.runtime import ContainerLog


@pytest.fixture
def kubelet(tmp_path: Path) -> Kubelet:
    return Kubelet(tmp_path / "pods", seed=7)


def names(log: ContainerLog) -> list[str]:
    return sorted(path.name for path in log.folder.iterdir())


def tags(path: Path) -> list[bytes]:
    return [line.split(b" ", 3)[2] for line in path.read_bytes().splitlines()]


def numbers(data: bytes) -> list[int]:
    """The sequence numbers in a file, in order, those of long records' ends apart."""
    return [int(n) for n in re.findall(rb'\bseq"?[:=](\d+)', data)]


def read(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def contents(pod: Pod) -> bytes:
    """Of all files of a pod's first container, oldest first."""
    files = sorted(
        pod.log.folder.iterdir(), key=lambda path: (int(path.name.split(".")[0]), path.name == "0.log", path)
    )
    return b"".join(read(path) for path in files)


def test_rotation_is_planned_in_the_kubelets_order() -> None:
    live = Path("/pods/a/0.log")
    rotated = [
        "0.log.20261121-100010.gz",
        "0.log.20261121-100020.gz",
        "0.log.20261121-100030.gz",
        "0.log.20261121-100040",
    ]
    steps = plan_rotation(live, [*rotated, "0.log.20261121-100040.tmp"], suffix="20261121-100050", max_files=5)
    assert [(step.action, step.path.name) for step in steps] == [
        ("delete", "0.log.20261121-100040.tmp"),
        ("delete", "0.log.20261121-100010.gz"),
        ("compress", "0.log.20261121-100040"),
        ("rename-compressed", "0.log.20261121-100040.tmp"),
        ("remove-plain", "0.log.20261121-100040"),
        ("rename-live", "0.log"),
        ("reopen", "0.log"),
    ]


def test_a_plain_file_whose_compressed_form_is_complete_is_deleted() -> None:
    steps = plan_rotation(Path("/a/0.log"), ["0.log.1", "0.log.1.gz"], suffix="2", max_files=5)
    assert [(step.action, step.path.name) for step in steps[:1]] == [("delete", "0.log.1")]
    assert "compress" not in {step.action for step in steps}


def test_newest_rotated_file_stays_plain_and_older_ones_are_compressed(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    for _ in range(3):
        pod.log.write(5)
        kubelet.rotate(pod.log)
    pod.log.write(5)
    suffixes = [name.removeprefix("0.log") for name in names(pod.log)]
    assert [suffix.endswith(".gz") for suffix in suffixes] == [False, True, True, False]
    assert numbers(contents(pod)) == list(range(20))


def test_only_logs_over_the_size_are_rotated_on_a_tick(kubelet: Kubelet) -> None:
    kubelet.settings = Settings(max_size=2000)
    large, small = kubelet.create_pod(), kubelet.create_pod()
    large.log.write(50)
    small.log.write(1)
    assert kubelet.tick() == 1
    assert len(names(large.log)) == 2
    assert names(small.log) == ["0.log"]


def test_oldest_files_are_removed_and_their_records_known(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    for _ in range(6):
        pod.log.write(10)
        kubelet.rotate(pod.log)
    assert len(names(pod.log)) == 5
    assert kubelet.unreadable() == {pod.log.account.key: set(range(20))}
    assert numbers(contents(pod)) == list(range(20, 60))


@pytest.mark.parametrize(
    ("die_before", "left"),
    [
        ("rename-compressed", ["0.log", "0.log.T1", "0.log.T1.tmp"]),
        ("remove-plain", ["0.log", "0.log.T1", "0.log.T1.gz"]),
        ("reopen", ["0.log.T1.gz", "0.log.T2"]),
    ],
)
def test_kubelet_that_dies_in_a_rotation_leaves_it_half_done(
    kubelet: Kubelet, die_before: Action, left: list[str]
) -> None:
    pod = kubelet.create_pod()
    pod.log.write(5)
    kubelet.rotate(pod.log)
    pod.log.write(5)
    kubelet.rotate(pod.log, die_before=die_before)
    pod.log.write(5)
    found = [name.replace("20261121-100000", "T1").replace("20261121-100001", "T2") for name in names(pod.log)]
    assert found == left
    kubelet.tick()
    kubelet.rotate(pod.log)
    pod.log.write(5)
    assert numbers(contents(pod)) == list(range(20))
    assert not [name for name in names(pod.log) if name.endswith(".tmp")]


def test_name_goes_back_when_reopening_fails(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.write(5)
    kubelet.rotate(pod.log, reopen_fails=True)
    pod.log.write(5)
    assert names(pod.log) == ["0.log"]
    assert numbers(contents(pod)) == list(range(10))


def test_a_record_may_begin_in_one_file_and_end_in_the_next(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.write(2)
    pod.log.begin_long()
    kubelet.rotate(pod.log)
    pod.log.end_long()
    live, rotated = sorted(pod.log.folder.iterdir())
    assert tags(rotated)[-1] == b"P"
    assert tags(live) == [b"F"]


def test_last_words_are_a_part_without_an_end(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.write(2)
    kubelet.restart_container(pod.log, last_words=True)
    pod.log.write(1)
    assert names(pod.log) == ["0.log", "1.log"]
    assert tags(pod.log.folder / "0.log")[-1] == b"P"
    assert pod.log.account.records == 4


def test_a_container_that_dies_inside_a_record_leaves_it_unfinished(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.begin_long()
    kubelet.end_pod(pod)
    assert tags(pod.log.path)[-1] == b"P"
    assert pod.log.account.unfinished == [0]


def test_half_a_line_is_on_disk_before_its_rest(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.write_half_line()
    assert not pod.log.path.read_bytes().endswith(b"\n")
    pod.log.write_rest()
    assert numbers(contents(pod)) == [0]


def test_deleted_pod_leaves_nothing_and_its_records_are_known(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod(containers=("sidecar",))
    pod.log.write(4)
    kubelet.delete_pod(pod)
    assert list(kubelet.root.iterdir()) == []
    assert kubelet.unreadable()[pod.log.account.key] == {0, 1, 2, 3}
    assert kubelet.account().records == 4


def test_directories_may_appear_before_their_files(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod(started=False)
    assert names(pod.log) == []
    kubelet.start_pod(pod)
    assert names(pod.log) == ["0.log"]


def test_freed_inode_goes_to_the_next_new_file(kubelet: Kubelet) -> None:
    kubelet.settings = Settings(reuse_inodes=True)
    pod = kubelet.create_pod()
    pod.log.write(3)
    kubelet.rotate(pod.log)
    plain = next(path for path in pod.log.folder.iterdir() if path.name != "0.log").stat().st_ino
    pod.log.write(3)
    kubelet.rotate(pod.log)
    assert pod.log.path.stat().st_ino == plain
    pod.log.write(3)
    assert numbers(contents(pod)) == list(range(9))


def test_inode_that_somebody_reads_is_not_reused(kubelet: Kubelet) -> None:
    kubelet.settings = Settings(reuse_inodes=True)
    pod = kubelet.create_pod()
    pod.log.write(3)
    written = pod.log.path.read_bytes()
    with pod.log.path.open("rb") as reader:
        kubelet.delete_pod(pod)
        other = kubelet.create_pod()
        other.log.write(1)
        assert other.log.path.stat().st_ino != os.fstat(reader.fileno()).st_ino
        assert reader.read() == written


def test_times_are_written_as_containerd_does() -> None:
    assert cri_time(START_NS) == b"2026-11-21T10:00:00Z"
    assert cri_time(START_NS + 1_230_000_000) == b"2026-11-21T10:00:01.23Z"


def test_clock_runs_by_its_factor_and_can_be_set_back() -> None:
    real = iter((100.0, 101.0, 101.0))
    clock = Clock(0, factor=60, real=lambda: next(real))
    assert clock.now_ns() == 60 * 10**9
    clock.advance(-10)
    assert clock.now_ns() == 50 * 10**9


def test_parts_make_up_the_record() -> None:
    record = Record("long", "stdout", b"a seq=%d and b" % SEQ, cuts=(1, 30))
    assert b"".join(record.numbered_parts(12)) == b"a seq=12 and b"
    assert len(record.numbered_parts(12)) == 3


def test_a_seed_reproduces_a_life(tmp_path: Path) -> None:
    trees = []
    for run in ("a", "b"):
        life = Life(Kubelet(tmp_path / run / "pods", seed=3, settings=Settings(max_size=20_000)), seed=5)
        for _ in range(400):
            life.step()
        root = life.kubelet.root
        files = sorted(path for path in root.rglob("*") if path.is_file())
        trees.append({path.relative_to(root): path.read_bytes() for path in files})
        assert set(life.done) == set(WEIGHTS), "every kind of event happened"
    assert trees[0] == trees[1]
    assert len(trees[0]) > 5


def test_what_a_life_leaves_on_disk_is_all_that_is_not_removed(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path / "pods", seed=11, settings=Settings(max_size=20_000, reuse_inodes=True))
    life = Life(kubelet, seed=12)
    for _ in range(300):
        life.step()
    unreadable = kubelet.unreadable()
    for log in kubelet.logs:
        found: set[int] = set()
        for path in log.folder.iterdir():
            found.update(numbers(read(path)))
        assert found | unreadable.get(log.account.key, set()) == set(range(log.account.records))


def test_a_log_grows_far_beyond_the_size_between_two_ticks(kubelet: Kubelet) -> None:
    kubelet.settings = Settings(max_size=2000)
    pod = kubelet.create_pod()
    for _ in range(10):
        pod.log.write(50)
    assert pod.log.path.stat().st_size > 20 * kubelet.settings.max_size
    assert kubelet.tick() == 1
    assert names(pod.log)[0] == "0.log"
    assert pod.log.path.stat().st_size == 0


def test_a_runtime_reopens_between_two_lines(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.write_half_line()
    kubelet.rotate(pod.log)
    live, rotated = sorted(pod.log.folder.iterdir())
    assert live.read_bytes() == b""
    assert rotated.read_bytes().endswith(b"\n")


def test_every_byte_has_its_place_in_the_account(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.write(20)
    pod.log.write_half_line()
    pod.log.begin_long()
    kubelet.rotate(pod.log)
    pod.log.interject()
    pod.log.end_long()
    live, rotated = sorted(pod.log.folder.iterdir())
    for path, stretch in zip((rotated, live), pod.log.stretches, strict=True):
        data = path.read_bytes()
        assert [place.begin for place in stretch.places[1:]] == [place.end for place in stretch.places[:-1]]
        assert stretch.places[-1].end == len(data)
        for record in stretch.records:
            text = b"".join(data[place.begin : place.end] for place in stretch.places if place.record == record)
            assert set(numbers(text)) <= {record}


def test_what_takes_time_comes_steps_later(tmp_path: Path) -> None:
    life = Life(Kubelet(tmp_path / "pods", seed=3, settings=Settings(max_size=20_000)), seed=5, patience=40)
    open_records = 0
    for _ in range(400):
        life.step()
        open_records = max(open_records, sum(not log.is_between_records for log in life.kubelet.logs if log.running))
    assert open_records > 1
    life.rest()
    assert all(log.is_between_records for log in life.kubelet.logs)
    assert sum(len(container.unfinished) for container in life.kubelet.account().containers) > 0


def test_refused_records_are_known(kubelet: Kubelet) -> None:
    pod = kubelet.create_pod()
    pod.log.write(1)
    pod.log.write_refused()
    assert pod.log.account.refused == [pod.log.account.records - 1]
    assert b'"response_bytes":"none"' in pod.log.path.read_bytes()
