"""A scan that believes what folders held finds what one that lists them all finds."""

import os
import random
from pathlib import Path

import pytest

from shipper.inputs.tail import discovery
from shipper.inputs.tail.discovery import Scan, Scanner
from shipper.inputs.tail.memory import BELIEVED_S, COARSEST_S, Memory, Stamp, stamp_of


class Node:
    """Pods' folders on a file system whose clock is as coarse as `tick_s`, and may be set."""

    def __init__(self, root: Path, *, tick_s: float) -> None:
        self.root, self.tick_s = root, tick_s
        self.now = 1000.0  # of the process
        self.ahead = 0.0  # of it, the file system's clock
        self.changed: dict[str, float] = {}
        self.pattern = f"{root}/*/*/*.log"
        self.touch(root)
        self.scanner = Scanner([self.pattern], memory=Memory(clock=lambda: self.now, stamp_of=self.stamp_of))

    def stamp_of(self, folder: str) -> Stamp | None:
        real = stamp_of(folder)
        return None if real is None else b"%d %b" % (int(self.changed[folder] / self.tick_s), real.split()[-1])

    def touch(self, *folders: Path) -> None:
        for folder in folders:
            self.changed[str(folder)] = self.now + self.ahead

    def put(self, path: Path) -> None:
        for folder in reversed(path.parents):
            if not folder.exists():
                folder.mkdir()
                self.touch(folder.parent, folder)
        if not path.exists():
            self.touch(path.parent)
        with path.open("ab") as file:
            file.write(b"x\n")

    def everything(self) -> Scan:
        return Scanner([self.pattern]).scan()


def act(node: Node, choose: random.Random) -> None:
    folder = node.root / f"shop_cart-{choose.randrange(3)}_uid" / choose.choice(("app", "sidecar"))
    live, files = folder / f"{choose.randrange(2)}.log", sorted(folder.glob("*")) if folder.exists() else []
    match choose.choice(("write", "write", "rotate", "pack", "delete", "replace", "delete folder", "link", "odd")):
        case "write" if not live.is_symlink():
            node.put(live)
        case "rotate" if live.exists():
            live.rename(f"{live}.20261121-{choose.randrange(10**6):06}")
            node.put(live)
        case "pack" if files:
            path = choose.choice(files)
            if path.name.count(".") == 2:
                node.put(path.with_name(f"{path.name}.gz"))
                if choose.random() < 0.8:
                    path.unlink()
        case "delete" if files:
            choose.choice(files).unlink()
            node.touch(folder)
        case "replace" if live.exists():
            (node.root / "other").write_bytes(b"other\n")
            (node.root / "other").replace(live)
            node.touch(folder)
        case "delete folder" if files:
            for path in files:
                path.unlink()
            folder.rmdir()
            node.touch(folder.parent)
        case "link" if not live.exists() and folder.exists() and choose.random() < 0.2:
            live.symlink_to(node.root / "shop_cart-0_uid/app/0.log")
            node.touch(folder)
        case "odd" if folder.exists() and not (folder / "7.log").exists() and choose.random() < 0.2:
            os.mkfifo(folder / "7.log")
            node.touch(folder)


@pytest.mark.parametrize("tick_s", [1e-9, 0.01, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_believed_is_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tick_s: float, seed: int
) -> None:
    monkeypatch.setattr(discovery, "REST_S", 0)  # nothing moves during a scan
    node, choose = Node(tmp_path, tick_s=tick_s), random.Random(seed)
    for _ in range(150):
        for _ in range(choose.choice((0, 0, 1, 3))):
            act(node, choose)
        node.now += choose.choice((0.0, 0.001, 0.3, 2.5, 10.0, 100.0))
        if tick_s < 1 and choose.random() < 0.1:
            node.ahead += choose.uniform(-100, 100)
        assert node.scanner.scan() == node.everything()


class Counted(Scanner):
    """Says which folders it has listed."""

    listed = frozenset[str]()

    def _entries(self, folder: str, out: Scan) -> "list[os.DirEntry[str]]":
        self.listed |= {folder}
        return super()._entries(folder, out)


def listings(node: Node, below: str = "/") -> int:
    scanner = node.scanner
    assert isinstance(scanner, Counted)
    scanner.listed = frozenset()
    assert scanner.scan(below).families == Scanner([node.pattern]).scan(below).families
    return len(scanner.listed)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path / "pods", tick_s=0.01)
    node.scanner = Counted([node.pattern], memory=Memory(clock=lambda: node.now, stamp_of=node.stamp_of))
    for i in range(3):
        node.put(node.root / f"shop_cart-{i}_uid/app/0.log")
    return node


def settle(node: Node) -> None:
    for _ in range(2):
        node.scanner.scan()
        node.now += 1.1 * COARSEST_S


def test_folder_is_listed_until_it_has_rested(node: Node) -> None:
    assert listings(node) == 7, "the root, three pods and their containers"
    node.now += 0.9 * COARSEST_S
    assert listings(node) == 7
    node.now += 0.2 * COARSEST_S
    assert listings(node) == 7, "the first listing that will be believed"
    assert listings(node) == 0


def test_only_what_has_changed_is_listed(node: Node) -> None:
    settle(node)
    node.put(node.root / "shop_cart-1_uid/app/0.log")
    assert listings(node) == 0, "a file's size is asked for without its folder"
    node.put(node.root / "shop_cart-1_uid/app/0.log.20261121-100000")
    assert listings(node) == 1
    node.put(node.root / "shop_cart-3_uid/app/0.log")
    assert listings(node) == 4, "the root, the pod, its container, and the one of before"


def test_what_was_heard_of_is_listed(node: Node) -> None:
    settle(node)
    assert listings(node, str(node.root / "shop_cart-1_uid")) == 3
    assert listings(node, str(node.root)) == 7


def test_times_are_not_believed_for_ever(node: Node) -> None:
    settle(node)
    stamps = dict(node.changed)
    node.put(node.root / "shop_cart-1_uid/app/1.log")
    node.changed = stamps  # its file system tells nothing of it
    assert len(node.scanner.scan().families) == 3
    node.now += 2 * BELIEVED_S
    assert len(node.scanner.scan().families) == 4


def test_folder_with_a_problem_or_a_link_is_listed_each_time(node: Node) -> None:
    (node.root / "shop_cart-1_uid/app/1.log").symlink_to(node.root / "shop_cart-1_uid/app/0.log")
    os.mkfifo(node.root / "shop_cart-2_uid/app/1.log")
    settle(node)
    assert listings(node) == 2
    assert node.scanner.scan().problems.keys() == {f"{node.root}/shop_cart-2_uid/app/1.log"}


def test_folders_of_other_logs_are_listed_each_time(tmp_path: Path) -> None:
    node = Node(tmp_path / "logs", tick_s=0.01)
    node.scanner = Counted([node.pattern], memory=Memory(clock=lambda: node.now, stamp_of=node.stamp_of))
    node.put(node.root / "a/b/x.log")
    settle(node)
    assert listings(node) == 3


def test_what_is_gone_is_forgotten(node: Node) -> None:
    settle(node)
    memory = repr(node.scanner._memory)
    path = node.root / "shop_cart-1_uid/app/0.log"
    path.unlink()
    for folder in (path.parent, path.parent.parent):
        folder.rmdir()
        node.touch(folder.parent)
    node.scanner.scan()
    assert (memory, repr(node.scanner._memory)) == ("<Memory of 7 folders>", "<Memory of 5 folders>")


def test_stamp_tells_of_each_name_and_each_folder(tmp_path: Path) -> None:
    stamps = [stamp_of(str(tmp_path))]
    os.utime(tmp_path, ns=(1, 1))
    stamps.append(stamp_of(str(tmp_path)))
    (tmp_path / "new").touch()
    stamps.append(stamp_of(str(tmp_path)))
    (tmp_path / "new").rename(tmp_path / "newer")
    os.utime(tmp_path, ns=(2, 2))
    stamps += [stamp_of(str(tmp_path)), stamp_of(str(tmp_path.parent))]
    assert len(set(stamps)) == len(stamps)
    assert stamp_of(str(tmp_path / "gone")) is None
