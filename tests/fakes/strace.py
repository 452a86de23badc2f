"""What a process asks of the kernel, as strace saw it: what it did to the files below one folder, with the times."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import pytest

from tests.fakes.lossy_disk import Disk, Truncate, Write

CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,fallocate,copy_file_range,"
    "fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink"
)
_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_WHOLE = re.compile(r"(\w+)\((.*)\) += (-?\d+)[^=]*<(\d+\.\d+)>$")
_KILLED = re.compile(r"\)? += \?.*$")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_DESCRIPTOR = re.compile(r"(\d+)<(.*)>(\(deleted\))?")
_SHARED_MEMORY = "-shm"  # of SQLite: mapped, and of no use to anybody once all processes have ended
_AT_FOLDER = frozenset({"openat", "unlinkat", "mkdirat"})


class Call(NamedTuple):
    begun: float  # epoch, seconds
    ended: float  # inf: the process was killed in it
    name: str
    arguments: Sequence[str]
    result: int


def command(output: Path) -> tuple[str, ...]:
    """What stands before the program's own: strace beside it, not above it, so that signals and exit codes are its."""
    options = ("-D", "-f", "-y", "-xx", "-ttt", "-T", "-s", str(2**24), "--seccomp-bpf", "-e", f"trace={CALLS}")
    return ("strace", *options, "-o", str(output))


@contextlib.contextmanager
def injected(pid: int, fault: str, *, calls: str = "fsync,fdatasync") -> Iterator[None]:
    """These calls of a process all meet a fault, as strace's `inject` has it, until the end or the process's end."""
    options = ("-f", "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}", "-o", "/dev/null")
    with subprocess.Popen(("strace", *options, "-p", str(pid)), stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            pytest.skip(f"strace may not attach to a process: {said}")
        try:
            yield
        finally:
            tracer.terminate()


def needed() -> None:
    """Skips the test where there is none, or where it may not trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed here")
    if subprocess.run(("strace", "-o", "/dev/null", "true"), capture_output=True).returncode:
        pytest.skip("strace may not trace here")


def has_ended(output: Path) -> bool:
    """Whether the last line of the program is written."""
    lines = output.read_bytes().splitlines() if output.exists() else []
    return bool(lines) and lines[-1].endswith(b"+++") and lines[-1].split()[0] == lines[0].split()[0]


def calls(output: Path) -> list[Call]:
    """Those that succeeded, in the order in which they ended; and last, those in which the process was killed."""
    return list(_calls(output.read_text("ascii").splitlines()))


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    begun: dict[str, tuple[float, str]] = {}  # by thread
    for line in lines:
        found = _LINE.match(line)
        assert found is not None, line
        thread, time, text = found[1], float(found[2]), found[3]
        if text.startswith(("+++", "---")):
            continue
        if text.endswith(_UNFINISHED):
            begun[thread] = time, text.removesuffix(_UNFINISHED)
            continue
        since, is_resumed = time, _RESUMED.match(text)
        if is_resumed:
            since, head = begun.pop(thread)
            text = head + text[is_resumed.end() :]
        whole = _WHOLE.match(text)
        if whole is None:
            assert _KILLED.search(text), text
            begun[thread] = since, _KILLED.sub("", text)
        elif int(whole[3]) >= 0:
            ended = time if is_resumed else time + float(whole[4])
            yield Call(since, ended, whole[1], whole[2].split(", "), int(whole[3]))
    for since, text in begun.values():
        name, _, arguments = text.partition("(")
        yield Call(since, float("inf"), name, arguments.split(", "), 0)


class Replay:
    """Does to a `Disk` what calls did to the real one."""

    def __init__(self, disk: Disk, *, names: Iterable[str]) -> None:
        """Only what lies in `names` below the disk's root is of interest."""
        self.disk = disk
        self._tops = [disk.root / name for name in names]
        self._offsets: dict[int, int] = {}  # by descriptor, for writes that give none

    def knows(self, path: PurePath) -> bool:
        is_inside = any(path == top or top in path.parents for top in self._tops)
        return is_inside and not path.name.endswith(_SHARED_MEMORY)

    def do(self, call: Call) -> PurePath | None:
        """-> the path of an fsync that has ended."""
        arguments = call.arguments[1:] if call.name in _AT_FOLDER else call.arguments
        described = _DESCRIPTOR.match(arguments[0])
        path = PurePath(_text(described[2] if described else arguments[0].strip('"')))
        is_deleted = described is not None and described[3] is not None
        if is_deleted or not (self.knows(path) or (call.name in ("fsync", "fdatasync") and path == self.disk.root)):
            return None
        return self._do(call, arguments, path, int(described[1]) if described else -1)

    def _do(self, call: Call, arguments: Sequence[str], path: PurePath, descriptor: int) -> PurePath | None:
        at = call.ended
        match call.name:
            case "open" | "openat":
                if "O_CREAT" in arguments[1]:
                    self.disk.create(at, path)
                if "O_TRUNC" in arguments[1]:
                    self.disk.file(path).change(Truncate(at, 0))
                self._offsets[call.result] = 0
            case "pwrite64":
                self.disk.file(path).change(Write(at, int(arguments[3]), _bytes(arguments[1])[: _done(call)]))
            case "write":
                data = _bytes(arguments[1])[: _done(call)]
                self.disk.file(path).change(Write(at, self._offsets[descriptor], data))
                self._offsets[descriptor] += len(data)
            case "truncate" | "ftruncate":
                self.disk.file(path).change(Truncate(at, int(arguments[1])))
            case "rename":
                self.disk.move(at, path, PurePath(_text(arguments[1].strip('"'))))
            case "unlink" | "rmdir" | "unlinkat":
                self.disk.remove(at, path)
            case "mkdir" | "mkdirat":
                self.disk.create(at, path, folder=True)
            case "fsync" | "fdatasync":
                self.disk.sync(call.begun, path)
                return path
            case _:
                raise AssertionError(f"{call.name} is not understood here")
        return None


def _done(call: Call) -> int | None:
    return None if call.ended == float("inf") else call.result


def _bytes(argument: str) -> bytes:
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal.replace("\\x", "")).decode() if "\\x" in hexadecimal else hexadecimal
