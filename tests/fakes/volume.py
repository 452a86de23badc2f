"""A small disk in a mount namespace that outlives the daemon: it can be full or read-only, and nobody else sees it."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o size=$1 tmpfs "$0" && echo mounted && exec sleep 600'
_BLOCK = bytes(64 * 1024)


class Volume:
    def __init__(self, holder: subprocess.Popen[str], folder: Path) -> None:
        self._pid = str(holder.pid)
        self._folder = folder
        self._filler = Path(f"/proc/{holder.pid}/root{folder}/filler")  # as seen from outside

    @property
    def inside(self) -> Sequence[str]:
        """What stands before a command that is to see it."""
        return ("nsenter", "--target", self._pid, "--user", "--preserve-credentials", "--mount")

    def fill(self) -> None:
        """To the last byte."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (len(_BLOCK), 1):
                with contextlib.suppress(OSError):
                    while file.write(_BLOCK[:size]):
                        pass

    def free(self) -> None:
        self._filler.unlink()

    def make_read_only(self) -> None:
        """While nobody has a file of it open for writing."""
        subprocess.run([*self.inside, "mount", "-o", "remount,ro", str(self._folder)], check=True)


@contextlib.contextmanager
def volume(folder: Path, size: str) -> Iterator[Volume]:
    """At `folder`, which exists; `size` as in mount(8). Skips the test where namespaces are not allowed."""
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, str(folder), size)
    try:
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed here")
    with holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "mounted\n":
            pytest.skip("a file system of one's own may not be mounted here")
        try:
            yield Volume(holder, folder)
        finally:
            holder.kill()
