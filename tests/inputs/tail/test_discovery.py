"""What is found, what is left out, and what is refused."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from shipper.inputs.tail import discovery
from shipper.inputs.tail.discovery import Scan, Scanner


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x\n")


def found(scan: Scan, root: Path) -> list[str]:
    return sorted(os.path.relpath(f.path, root) for family in scan.families.values() for f in family.files)


def test_globs_find_live_files_and_their_rotated_siblings(tmp_path: Path) -> None:
    put(tmp_path / "a/x.log", tmp_path / "a/x.log.1", tmp_path / "a/x.log.2.gz", tmp_path / "a/x.txt", tmp_path / "b/y")
    scan = Scanner([f"{tmp_path}/*/*.log"]).scan()
    assert found(scan, tmp_path) == ["a/x.log", "a/x.log.1", "a/x.log.2.gz"]
    (family,) = scan.families.values()
    assert [Path(f.path).name for f in family.files] == ["x.log.2.gz", "x.log.1", "x.log"]


def test_two_stars_are_any_number_of_folders(tmp_path: Path) -> None:
    put(tmp_path / "a.log", tmp_path / "x/b.log", tmp_path / "x/y/z/c.log", tmp_path / "x/y/d.txt")
    (tmp_path / "x/round").symlink_to(tmp_path / "x", target_is_directory=True)
    assert found(Scanner([f"{tmp_path}/**/*.log"]).scan(), tmp_path) == ["a.log", "x/b.log", "x/y/z/c.log"]


def test_file_that_two_patterns_match_is_found_once(tmp_path: Path) -> None:
    put(tmp_path / "a.log", tmp_path / "b.txt")
    assert found(Scanner([f"{tmp_path}/*.log", f"{tmp_path}/*"]).scan(), tmp_path) == ["a.log", "b.txt"]


def test_exclude_is_by_path_with_its_rotated_siblings(tmp_path: Path) -> None:
    put(tmp_path / "a/debug.log", tmp_path / "a/debug.log.1", tmp_path / "a/app.log", tmp_path / "b/c/debug.log")
    scan = Scanner([f"{tmp_path}/**/*.log"], exclude=[f"{tmp_path}/*/debug.log"]).scan()
    assert found(scan, tmp_path) == ["a/app.log", "b/c/debug.log"]
    assert scan.excluded == {f"{tmp_path}/a/debug.log"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include_namespaces": ["shop", "web-*"]}, {"shop", "web-1"}),
        ({"exclude_namespaces": ["kube-*"]}, {"shop", "web-1"}),
        ({"include_namespaces": ["*"], "exclude_namespaces": ["shop"]}, {"kube-system", "web-1"}),
        ({"own_pod": ("shop", "p-1")}, {"kube-system", "web-1"}),
    ],
)
def test_namespaces_that_are_left_out_are_not_entered(
    tmp_path: Path, options: dict[str, list[str]], expected: set[str]
) -> None:
    for namespace in ("shop", "web-1", "kube-system"):
        put(tmp_path / f"{namespace}_p-1_uid/app/0.log")
    scan = Scanner([f"{tmp_path}/*/*/*.log"], **options).scan()  # type: ignore[arg-type]
    assert {name.partition("_")[0] for name in found(scan, tmp_path)} == expected
    assert not any(folder.startswith(left_out) for left_out in scan.excluded for folder in scan.folders)
    assert len(scan.excluded) == 3 - len(expected)


def test_events_of_what_is_left_out_are_not_taken(tmp_path: Path) -> None:
    scanner = Scanner([f"{tmp_path}/*/*/*.log"], exclude=[f"{tmp_path}/*/noisy/*"], exclude_namespaces=["kube-system"])
    assert scanner.takes(f"{tmp_path}/shop_p_uid/app/0.log")
    assert scanner.takes(f"{tmp_path}/shop_p_uid/app/0.log.20261121-100000.gz")
    assert not scanner.takes(f"{tmp_path}/shop_p_uid/app/0.log.20261121-100000.tmp")
    assert not scanner.takes(f"{tmp_path}/shop_p_uid/noisy/0.log")
    assert not scanner.takes(f"{tmp_path}/kube-system_p_uid/app/0.log")
    assert not scanner.takes(f"{tmp_path}/shop_p_uid/app")


@pytest.mark.parametrize(
    "pattern", ["*/*/*.log", "**/*.log", "*_p_*/[ab]pp/*", "shop_p_uid/app/0.log", "**/a?p/0.*", "*/*/*"]
)
def test_it_covers_what_it_finds_and_nothing_that_it_leaves_out(tmp_path: Path, pattern: str) -> None:
    names = ("0.log", "0.log.20261121-100000", "0.log.20261121-110000.gz", "1.log", "app.2", "x.log.1", "y.gz", "z.txt")
    put(*(tmp_path / f"{ns}_p_uid/{c}/{n}" for ns in ("shop", "web", "kube") for c in ("app", "noisy") for n in names))
    put(tmp_path / "plain.log")
    (tmp_path / "shop_p_uid/link").symlink_to(tmp_path / "web_p_uid/app", target_is_directory=True)
    everything = Scanner([f"{tmp_path}/**", f"{tmp_path}/*/*/*", f"{tmp_path}/**/*"]).scan()
    scanner = Scanner(
        [f"{tmp_path}/{pattern}"],
        exclude=[f"{tmp_path}/*/noisy/*", f"{tmp_path}/**/1.log"],
        exclude_namespaces=["kube"],
    )
    files = {f.path: live_path for live_path, family in scanner.scan().families.items() for f in family.files}
    assert files
    assert all(scanner.covers(live_path, path) for path, live_path in files.items())
    for live_path, family in everything.families.items():
        left_out = [f.path for f in family.files if f.path not in files]
        assert not [path for path in left_out if scanner.covers(live_path, path) and "/link/" not in path]


def test_odd_files_are_passed_over_with_a_message(tmp_path: Path) -> None:
    put(tmp_path / "good.log")
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "folder.log").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.log"))
        scan = Scanner([f"{tmp_path}/*.log"]).scan()
    assert found(scan, tmp_path) == ["good.log"]
    assert scan.problems == {str(tmp_path / name): "is not a regular file" for name in ("pipe.log", "socket.log")}


def test_name_with_a_newline_is_a_name(tmp_path: Path) -> None:
    put(tmp_path / "a\nb.log", tmp_path / "a\nb.log.1")
    assert found(Scanner([f"{tmp_path}/*.log"]).scan(), tmp_path) == ["a\nb.log", "a\nb.log.1"]


def test_link_out_of_the_tree_is_refused_with_a_hint(tmp_path: Path) -> None:
    put(tmp_path / "secret/shadow", tmp_path / "pods/a/good.log", tmp_path / "secret/x.log")
    (tmp_path / "pods/a/bad.log").symlink_to(tmp_path / "secret/shadow")
    (tmp_path / "pods/b").symlink_to(tmp_path / "secret", target_is_directory=True)
    scan = Scanner([f"{tmp_path}/pods/*/*.log"]).scan()
    assert found(scan, tmp_path) == ["pods/a/good.log"]
    assert set(scan.problems) == {f"{tmp_path}/pods/a/bad.log", f"{tmp_path}/pods/b"}
    assert all("`follow`" in sentence for sentence in scan.problems.values())


def test_link_into_a_followed_folder_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    put(tmp_path / "docker/1-json.log")
    (tmp_path / "pods/a").mkdir(parents=True)
    (tmp_path / "pods/a/0.log").symlink_to(tmp_path / "docker/1-json.log")
    scan = Scanner([f"{tmp_path}/pods/*/*.log"], follow=[f"{tmp_path}/docker"]).scan()
    (family,) = scan.families.values()
    assert family.files[0].target == str(tmp_path / "docker/1-json.log")
    assert family.files[0].inode == (tmp_path / "docker/1-json.log").stat().st_ino


def test_links_that_lead_nowhere_or_in_circles_hurt_nobody(tmp_path: Path) -> None:
    put(tmp_path / "good.log")
    (tmp_path / "nowhere.log").symlink_to(tmp_path / "gone")
    (tmp_path / "circle.log").symlink_to(tmp_path / "circle.log")
    assert found(Scanner([f"{tmp_path}/*.log"]).scan(), tmp_path) == ["good.log"]


def test_root_may_be_a_link_that_comes_later(tmp_path: Path) -> None:
    scanner = Scanner([f"{tmp_path}/pods/*/*.log"])
    assert scanner.scan().families == {}
    put(tmp_path / "data/a/x.log")
    (tmp_path / "pods").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data/a/y.log").symlink_to(tmp_path / "data/a/x.log")
    assert found(scanner.scan(), tmp_path) == ["pods/a/x.log", "pods/a/y.log"]


def test_partial_scan_reads_only_what_lies_below(tmp_path: Path) -> None:
    put(tmp_path / "x.log", tmp_path / "a/1.log", tmp_path / "a/b/2.log", tmp_path / "ab/3.log")
    scanner = Scanner([f"{tmp_path}/**/*.log"])
    scan = scanner.scan(f"{tmp_path}/a")
    assert found(scan, tmp_path) == ["a/1.log", "a/b/2.log"]
    assert scan.folders == {f"{tmp_path}/a", f"{tmp_path}/a/b"}
    assert scanner.scan(f"{tmp_path}/gone").folders == set()


def test_glob_does_not_leave_its_folder(tmp_path: Path) -> None:
    scanner = Scanner([f"{tmp_path}/*/x[.-]?.log"])
    assert scanner.takes(f"{tmp_path}/a/x.1.log")
    assert not scanner.takes(f"{tmp_path}/a/x/1.log")
    assert not scanner.takes(f"{tmp_path}/a/b/x.1.log")


def test_folder_is_listed_as_it_was_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rotations come between the names and what stands there: the first `0.log` would be missed."""
    folder = tmp_path / "shop_cart-1_uid-1" / "app"
    live, rotated = folder / "0.log", [folder / f"0.log.20261121-10000{i}" for i in (1, 2)]
    put(live)
    live.write_bytes(b"a")
    stands_there = Scanner._look
    calls: list[str] = []

    def look(scanner: Scanner, entry: "os.DirEntry[str]", *arguments: Any) -> Any:
        if not calls:
            for number, target in enumerate(rotated):
                live.rename(target)
                live.write_bytes(b"b" * (number + 2))
        calls.append(entry.name)
        return stands_there(scanner, entry, *arguments)

    monkeypatch.setattr(Scanner, "_look", look)
    (family,) = Scanner([f"{tmp_path}/*/*/*.log"]).scan().families.values()
    assert [(Path(file.path).name, file.size) for file in family.files] == [
        (rotated[0].name, 1),
        (rotated[1].name, 2),
        ("0.log", 3),
    ]
    assert calls[0] == "0.log"


def test_folder_that_never_rests_is_listed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "shop_cart-1_uid-1" / "app" / "0.log", tmp_path / "logs" / "local" / "app.log")
    tries: list[int] = []

    def changed_ns(_: str) -> int:
        tries.append(len(tries))
        return len(tries)

    monkeypatch.setattr(discovery, "changed_ns", changed_ns)
    monkeypatch.setattr(discovery, "REST_S", 0)
    assert found(Scanner([f"{tmp_path}/shop*/*/*.log"]).scan(), tmp_path) == ["shop_cart-1_uid-1/app/0.log"]
    assert len(tries) == 2 * discovery.TRIES - 1  # before and after each listing, but for the last
    tries.clear()
    assert found(Scanner([f"{tmp_path}/logs/*/*.log"]).scan(), tmp_path) == ["logs/local/app.log"]
    assert len(tries) == 1, "no wait for a folder of other logs"
