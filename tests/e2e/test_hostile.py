"""What applications and accidents leave in a log folder: bounded, counted, confined; a neighbour hardly notices."""

import asyncio
import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.configs import Part, tail, to_files
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.lines import UID, Container

MIB = 2**20
NEIGHBOUR_CPU_S = 0.6  # so much may be done for others before a line is out: no clock, which runs on a busy machine
PROCESS_BYTES = 60 * MIB  # what it may take on top of `memory_limit`, at rest
PEAK_BYTES = 24 * MIB  # and at work: copies of a record of 1 MiB that is six times as long in JSON; measured: 16 MiB
MEMORY_LIMIT = 32 * MIB
HEAD = b"2026-11-21T10:00:00.123456789Z stdout F "
MONSTER = "local"  # the monsters' output


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder of files that are no container's."""
    folder = tmp_path / "local"
    folder.mkdir()
    return folder


@pytest.fixture
def quiet(tmp_path: Path) -> "Neighbour":
    return Neighbour(tmp_path)


@pytest.fixture
def daemon(tmp_path: Path, make_daemon: MakeDaemon, local: Path) -> Daemon:
    """Pods and other files, each to an output of their own."""
    return make_daemon(config(tmp_path))


def config(folder: Path) -> Part:
    batch = {"max_age": "50ms", "max_bytes": "4MiB"}
    return {
        "service": {"memory_limit": f"{MEMORY_LIMIT // MIB}MiB"},
        "inputs": [
            tail(folder / "pods"),
            {"type": "tail", "name": "local", "path": f"{folder}/local/**/*.log", "tag": "local.{file}"},
        ],
        "filters": [{"type": "json"}],
        "outputs": [
            to_files(folder / "out", match="kube.*", batch=batch),
            {"type": "file", "name": MONSTER, "match": "local.*", "path": f"{folder}/monsters.ndjson", "batch": batch},
        ],
    }


class Neighbour:
    """A container that says something now and then."""

    def __init__(self, folder: Path) -> None:
        self._container = Container(folder / "pods", pod="quiet-1")
        self._shipped = folder / "out/shop/quiet-1/app.ndjson"
        self.waited: list[float] = []  # by the daemon's own time, that of its CPU

    @property
    def lines(self) -> int:
        return self._shipped.read_bytes().count(b"\n") if self._shipped.exists() else 0

    async def says(self, daemon: Daemon) -> None:
        """Returns when it is heard."""
        before, since = self.lines, daemon.cpu_s
        self._container.write(f"line {before}")
        await daemon.until(lambda: self.lines > before)
        self.waited.append(daemon.cpu_s - since)

    async def says_first(self, daemon: Daemon) -> None:
        """Starts the daemon with a line that is there before."""
        self._container.write("what is there before")
        await daemon.start()
        await daemon.until(lambda: self.lines == 1)

    async def is_heard_while(self, goes_on: Callable[[], Any], daemon: Daemon) -> None:
        self.waited, deadline = [], daemon.deadline()
        while await goes_on():
            daemon.has_time(deadline)
            await self.says(daemon)
        assert self.waited, "it was over before the neighbour said anything"
        self.was_heard_in_time()

    def was_heard_in_time(self) -> None:
        assert max(self.waited) < NEIGHBOUR_CPU_S, self.waited


def put(path: Path, content: bytes) -> None:
    """At once, as a rename does."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_bytes(content)
    beside.rename(path)


def put_sparse(path: Path, size: int) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(b"begin\n")
        file.truncate(size)
        file.seek(size)
        file.write(b"\nend\n")
    beside.rename(path)


def bomb(unit: bytes, size: int) -> bytes:
    return gzip.compress(unit * (size // len(unit)), 6)


def brackets(size: int) -> bytes:
    return b'{"a":[' + b"[]," * (size // 3) + b"1]}\n"


MONSTERS: dict[str, Callable[[Path], None]] = {
    "a long line": lambda path: put(path, b"x" * (16 * MIB) + b"\n"),
    "a long line of brackets": lambda path: put(path, brackets(8 * MIB)),
    "records of brackets": lambda path: put(path, brackets(MIB - 100) * 8),
    "empty lines": lambda path: put(path, b"\n" * MIB),
    "one-letter lines": lambda path: put(path, b"x\n" * (MIB // 4)),
    "zeros": lambda path: put(path, bytes(8 * MIB) + b"\n"),
    "a file with a hole": lambda path: put_sparse(path, 8 * MIB),
    "no UTF-8": lambda path: put(path, random.Random(1).randbytes(8 * MIB) + b"\n"),
    "a bomb of lines": lambda path: put(path.with_name("app.log.1.gz"), bomb(b"x" * 1023 + b"\n", 64 * MIB)),
    "a bomb of one line": lambda path: put(path.with_name("app.log.1.gz"), bomb(b"x" * 1024, 64 * MIB)),
    "a bomb of empty lines": lambda path: put(path.with_name("app.log.1.gz"), bomb(b"\n" * 1024, MIB)),
}


@pytest.mark.parametrize("kind", MONSTERS)
async def test_a_monster_is_shipped_in_bounded_memory_and_delays_no_neighbour(
    kind: str, daemon: Daemon, local: Path, quiet: Neighbour
) -> None:
    await daemon.start()
    await quiet.says(daemon)
    before = daemon.memory_bytes
    MONSTERS[kind](local / "app.log")

    async def goes_on() -> bool:
        accounts = [a for a in (await daemon.json("/api/v1/audit"))["accounts"] if a["output"] == MONSTER]
        return not accounts or any(a["pending"] for a in accounts)

    await quiet.is_heard_while(goes_on, daemon)
    grown = daemon.peak_memory_bytes - before
    print(f"{kind}: neighbour after {max(quiet.waited):.3f} s of CPU, {grown / MIB:.0f} MiB more than before")
    assert grown < MEMORY_LIMIT + PEAK_BYTES
    assert await daemon.stop() == 0
    await daemon.settled()


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "with garbage behind it": lambda data: data + b"garbage" * 1000,
    "of several members": lambda data: data + gzip.compress(b"") * 100 + data,
    "with zeros within": lambda data: data[: len(data) // 2] + bytes(100) + data[len(data) // 2 + 100 :],
    "that is none": lambda data: b"no gzip at all",
    "that is empty": lambda data: b"",
}


async def test_damaged_archives_are_read_as_far_as_they_go(
    daemon: Daemon, tmp_path: Path, local: Path, quiet: Neighbour
) -> None:
    rng = random.Random(1)
    whole = b"".join(b"%d %b\n" % (i, rng.randbytes(40).hex().encode()) for i in range(5000))
    for name, damage in DAMAGED.items():
        put(local / f"{name}.log.1.gz", damage(gzip.compress(whole)))
    await quiet.says_first(daemon)
    await daemon.caught_up(MONSTER, seen_bytes=len(whole) * 3)
    assert await daemon.stop() == 0
    found = by_file(tmp_path / "monsters.ndjson")
    everything = [line.decode() for line in whole.splitlines()]
    assert found["with garbage behind it.log"] == everything
    assert found["of several members.log"] == 2 * everything
    for kind in ("truncated", "with zeros within"):
        *complete, last = found[f"{kind}.log"]
        assert 1000 < len(complete) < 5000
        assert complete == everything[: len(complete)]
        assert everything[len(complete)].startswith(last)
    assert len(found) == 4
    await daemon.settled()


def by_file(path: Path) -> dict[str, list[str]]:
    """Messages, by the name of their file; without a line that is being written."""
    found: dict[str, list[str]] = {}
    for line in path.read_bytes().rpartition(b"\n")[0].splitlines():
        document = json.loads(line)
        found.setdefault(Path(document["file"]["path"]).name, []).append(document["message"])
    return found


SECRET = "root:$6$secret"


async def test_links_pipes_and_devices_lead_nowhere(
    daemon: Daemon, tmp_path: Path, local: Path, quiet: Neighbour
) -> None:
    secret = tmp_path / "etc/shadow"
    secret.parent.mkdir()
    secret.write_text(SECRET + "\n", encoding="utf-8")
    pod = tmp_path / "pods" / f"shop_evil-1_{UID}"
    for folder in (local, pod / "app"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "0.log").symlink_to(secret)
        (folder / "1.log").symlink_to("../../etc/shadow")
        os.mkfifo(folder / "2.log")
        (folder / "3.log").symlink_to("/dev/zero")
        (folder / "4.log").symlink_to("/proc/self/mem")
        (folder / "5.log").symlink_to(folder / "5.log")
        (folder / "6.log").mkdir()
        (folder / "7.log").symlink_to("/nowhere")
        (folder / "loop").symlink_to(folder, target_is_directory=True)
    (pod / "etc").symlink_to(secret.parent, target_is_directory=True)
    (secret.parent / "0.log").write_text(SECRET + "\n", encoding="utf-8")
    (pod / "round").symlink_to(tmp_path / "pods", target_is_directory=True)
    await quiet.says_first(daemon)
    for _ in range(3):
        await quiet.says(daemon)
    quiet.was_heard_in_time()
    status = await daemon.json("/api/v1/status")
    unreadable = {path for tail in status["inputs"] for path in tail["unreadable"]}
    assert {str(local / "0.log"), str(pod / "app/0.log"), str(local / "2.log"), str(pod / "etc")} <= unreadable
    assert await daemon.stop() == 0
    shipped = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.ndjson")]
    assert len(shipped) == 1
    assert SECRET not in shipped[0]
    assert SECRET not in daemon.log()
    await daemon.settled()


async def test_a_folder_that_becomes_a_link_shows_nothing_of_where_it_leads(
    daemon: Daemon, tmp_path: Path, local: Path, quiet: Neighbour
) -> None:
    """While it is scanned and read: what decides is where the kernel has opened the file."""
    secret = tmp_path / "etc"
    secret.mkdir()
    mine = local / "mine"
    mine.mkdir()
    for number in range(20):
        (secret / f"{number}.log").write_text(SECRET + "\n", encoding="utf-8")
        (mine / f"{number}.log").write_text("mine\n", encoding="utf-8")
    await quiet.says_first(daemon)
    link = local / "link"
    link.symlink_to(secret, target_is_directory=True)
    for _ in range(200):
        mine.rename(local / "aside")
        link.rename(mine)
        await asyncio.sleep(0.005)
        mine.rename(link)
        (local / "aside").rename(mine)
        await asyncio.sleep(0.005)
    await quiet.says(daemon)
    quiet.was_heard_in_time()
    assert await daemon.stop() in (0, 3)
    assert all(SECRET not in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.ndjson"))


ODD_NAMES = (
    b"new\nline.log",
    b"no \xff UTF-8.log",
    b"quo\"te's \\.log",
    b"x" * 251 + b".log",
    b"_.log",
    b"{tag}.log",
    b"$(id).log",
    b" .log",
    b"\x1b[31mred.log",
    b"..log",
    b"a*b?[c].log",
    "ünï😀.log".encode(),
    b"a_b_c_d.log",
)
ODD_FOLDERS = (
    b"a_b_c_d",
    b"_x_y",
    b"shop__u",
    b"shop_cart_\xff",
    b"SHOP_cart_u",
    b"shop_cart_" + b"u" * 200,
    b"a\nb_c_d",
)
ODD_CONTAINERS = (b"app", b"c\nd", b"\xff\xfe", b'q"', b"_", b"__", b"y" * 255, b"...", b"\x1b[2J")


async def test_odd_names_are_names(daemon: Daemon, tmp_path: Path, local: Path, quiet: Neighbour) -> None:
    root = os.fsencode(tmp_path)
    for number, name in enumerate(ODD_NAMES):
        write(b"/".join((root, b"local", name)), b"file %d\n" % number)
    places = [(folder, container) for folder in ODD_FOLDERS for container in ODD_CONTAINERS]
    for number, (folder, container) in enumerate(places):
        write(b"/".join((root, b"pods", folder, container, b"0.log")), HEAD + b"pod %d\n" % number)
    await quiet.says_first(daemon)
    write(root + b"/pods/shop_cart-9_u/\xff/0.log", HEAD + b"pod %d\n" % len(places))  # no event tells of it
    for _ in range(3):
        await quiet.says(daemon)
    quiet.was_heard_in_time()
    await daemon.caught_up(MONSTER, "files")
    for path in ("/metrics", "/api/v1/status", "/api/v1/audit", "/healthz", "/readyz"):
        assert (await daemon.get(path))[0] == 200, path
    assert await daemon.stop() == 0
    shipped = [path for path in tmp_path.rglob("*.ndjson") if path != tmp_path / "monsters.ndjson"]
    assert all(
        tmp_path / "out" in path.parents and len(path.relative_to(tmp_path / "out").parts) == 3 for path in shipped
    )
    messages = [json.loads(line)["message"] for path in shipped for line in path.read_bytes().splitlines()]
    assert sorted(m for m in messages if m.startswith("pod")) == sorted(f"pod {i}" for i in range(len(places) + 1))
    files = by_file(tmp_path / "monsters.ndjson")
    assert files == {name.decode(errors="replace"): [f"file {i}"] for i, name in enumerate(ODD_NAMES)}
    await daemon.settled()
    for command in (("audit", "CONFIG"), ("checkpoints", "list", "CONFIG")):
        result = await daemon.command(*command)
        assert result.code == 0
        assert all(line.isprintable() for line in result.out.expandtabs().splitlines())


def write(path: bytes, content: bytes) -> None:
    file = Path(os.fsdecode(path))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


DEEP = b"[" * 10_000 + b"]" * 10_000
ODD_MESSAGES = (
    b"{",
    b"}",
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",
    b"nul \x00 within \x1b[31m",
    b'{"a":' + DEEP + b"}",
    b'{"a":' * 10_000,
    DEEP,
    b'{"a":1}{"b":2}',
    b'{"@timestamp":1,"stream":2,"kubernetes":{"namespace_name":"kube-system"},"kubernetes.pod_name":3}',
    b'{"\\u0040timestamp":1,"str\\u0065am":2,"\\u006bubernetes":{"namespace_name":"kube-system"}}',
    b'{"_id":"mine","a":"\\ud800"}',
    b'{"stream":1,"stream_original":2,"stream_original_original":3}',
    b"{" + b",".join(b'"key-%d":%d' % (i, i) for i in range(50_000)) + b"}",
    b'{"a":1e999999,"b":' + b"9" * 5000 + b"}",
    b'","kubernetes":{"namespace_name":"kube-system"},"x":"',
    b'{"a":1},"kubernetes":{"namespace_name":"kube-system"}',
)


async def test_no_message_can_break_a_document_or_spoof_an_identity(
    daemon: Daemon, tmp_path: Path, quiet: Neighbour
) -> None:
    log = tmp_path / "pods" / f"shop_evil-1_{UID}" / "app/0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"".join(HEAD + message + b"\n" for message in ODD_MESSAGES))
    await quiet.says_first(daemon)
    await daemon.caught_up("files", seen_bytes=log.stat().st_size)
    assert await daemon.stop() == 0
    lines = (tmp_path / "out/shop/evil-1/app.ndjson").read_bytes().splitlines()
    assert len(lines) == len(ODD_MESSAGES)
    for line in lines:
        document = json.loads(line, object_pairs_hook=no_equal_keys, parse_int=str)
        assert document["kubernetes"]["namespace_name"] == "shop"
        assert (document["stream"], document["@timestamp"]) == ("stdout", HEAD[:30].decode())
    await daemon.settled()


def no_equal_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


ODD_VALUES = (
    "../../../../etc/passwd",
    "..",
    ".",
    "/",
    "/etc/passwd",
    "a/../../b",
    "..\\..\\b",
    "\x00",
    "a\nb",
    "\ud800",
    "x" * 5000,
    "{id}",
    "%2e%2e%2f",
    "~root",
    "",
    " ",
    "-",
    "CON",
    "\u202e",
)


async def test_no_value_leaves_the_folder_that_a_template_says(
    tmp_path: Path, make_daemon: MakeDaemon, quiet: Neighbour
) -> None:
    """Every value has a file of its own, one level below `out`."""
    log = Container(tmp_path / "pods", pod="evil-1")
    log.write(*(json.dumps({"user": value, "n": n}) for n, value in enumerate(ODD_VALUES)))
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "filters": [{"type": "json"}],
            "outputs": [{"type": "file", "name": "files", "path": f"{tmp_path}/out/{{field:user}}/x.ndjson"}],
        }
    )
    assert await daemon.once() == 0, daemon.log()
    files = list(tmp_path.rglob("*.ndjson"))
    assert all(path.parent.parent == tmp_path / "out" for path in files)
    found = sorted(json.loads(line)["n"] for path in files for line in path.read_bytes().splitlines())
    assert found == list(range(len(ODD_VALUES)))
    await daemon.settled()


async def test_countless_values_are_countless_files_and_delay_no_neighbour(
    tmp_path: Path, make_daemon: MakeDaemon, quiet: Neighbour
) -> None:
    values = 5_000
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "filters": [{"type": "json"}],
            "outputs": [
                to_files(tmp_path / "out", match="kube.*quiet*"),
                {"type": "file", "name": "many", "match": "kube.*evil*", "path": f"{tmp_path}/many/{{field:u}}.ndjson"},
            ],
        }
    )
    await daemon.start()
    await quiet.says(daemon)
    log = Container(tmp_path / "pods", pod="evil-1")
    log.write(*(f'{{"u":{n}}}' for n in range(values)))

    async def goes_on() -> bool:
        return sum(1 for _ in (tmp_path / "many").glob("*.ndjson")) < values

    await quiet.is_heard_while(goes_on, daemon)
    print(f"neighbour after {max(quiet.waited):.3f} s of CPU")
    await daemon.caught_up("many", seen_bytes=log.bytes)
    assert await daemon.stop() == 0
    await daemon.settled()


async def test_files_that_are_overwritten_while_they_are_read_are_counted(
    daemon: Daemon, tmp_path: Path, local: Path, quiet: Neighbour
) -> None:
    """As copytruncate does, without the copy: what nobody can read any more is lost, and said; nothing else is."""
    await quiet.says_first(daemon)
    live, rng = local / "app.log", random.Random(1)
    for turn in range(60):
        lines = [f"turn {turn} line {n}" for n in range(rng.randrange(1, 3000))]
        live.write_text("\n".join(lines) + "\n", encoding="utf-8")
        await asyncio.sleep(rng.choice((0, 0.01, 0.06)))
        if turn % 10 == 0:
            await quiet.says(daemon)
    quiet.was_heard_in_time()
    live.write_text("the last one\n", encoding="utf-8")
    await daemon.until(lambda: b"the last one" in read_or_nothing(tmp_path / "monsters.ndjson"))
    await daemon.caught_up(MONSTER)
    assert await daemon.stop() in (0, 3)
    accounts = await daemon.command("audit", "CONFIG", "--json")
    assert "does not add up" not in accounts.out
    messages = by_file(tmp_path / "monsters.ndjson")["app.log"]
    assert len(messages) == len(set(messages))


def read_or_nothing(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def messages_in(path: Path) -> set[str]:
    return {message for found in by_file(path).values() for message in found} if path.exists() else set()


async def test_thousands_of_files_that_appear_and_vanish_are_shipped_and_delay_no_neighbour(
    daemon: Daemon, tmp_path: Path, local: Path, quiet: Neighbour
) -> None:
    await quiet.says_first(daemon)
    turns, per_turn = 20, 150
    for turn in range(turns):
        for number in range(per_turn):
            (local / f"{turn}-{number}.log").write_text(f"file {turn}-{number}\n", encoding="utf-8")
        await quiet.says(daemon)
        if turn >= 5:
            for path in local.glob(f"{turn - 5}-*.log"):
                path.unlink()
    quiet.was_heard_in_time()
    kept = {f"file {turn}-{number}" for turn in range(turns - 5, turns) for number in range(per_turn)}
    await daemon.until(lambda: kept <= messages_in(tmp_path / "monsters.ndjson"))
    await daemon.caught_up(MONSTER)
    assert daemon.memory_bytes < MEMORY_LIMIT + PROCESS_BYTES
    assert await daemon.stop() in (0, 3)
    shipped = messages_in(tmp_path / "monsters.ndjson")
    print(f"neighbour after {max(quiet.waited):.3f} s of CPU, {len(shipped)} of {turns * per_turn} files were seen")
