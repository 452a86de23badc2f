"""What the first bytes of a file tell: who it is, how it frames its records, and what its ids are made of."""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from shipper.document import id_base, time_ns
from shipper.inputs.tail.discovery import Family, Found, changed_ns
from shipper.inputs.tail.files import Measurement, OpenFile, anywhere, open_file
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.identity import FINGERPRINT_BYTES
from shipper.inputs.tail.match import Head
from shipper.inputs.tail.paths import folder_of, is_container
from shipper.parsers import Format, detect_format, docker
from shipper.parsers.cri import is_cri
from shipper.record import Source

MEASURED_AT_ONCE_BYTES = 1 << 26  # of a gzipped file: more than the kubelet's have
LONGEST_FIRST_LINE_BYTES = 256 * 1024  # docker's time stands at the end of its line, which it cuts after 16 KiB of text


class Asked(NamedTuple):
    """A family on disk, what is known of it, and which of its files must be opened to tell the one by the other."""

    family: Family
    generations: Sequence[Generation]
    questions: Sequence[Found]


class Opened:
    """Files that were opened to decide who they are, by path; without those that have moved since they were found."""

    def __init__(
        self,
        files: Sequence[Found],
        generations: Sequence[Generation],
        *,
        measures_all: bool = True,
        may_read: Callable[[str], bool] = anywhere,
    ) -> None:
        """It blocks. Without `measures_all`, the size of a large gzipped file is only what was seen of it so far."""
        self._measures_all, self._may_read = measures_all, may_read
        self.heads: dict[str, Head] = {}
        self.problems: dict[str, str] = {}
        self._files: dict[str, OpenFile] = {}
        for found in files:
            try:
                self._open(found, generations)
            except FileNotFoundError:
                continue
            except OSError as exc:
                self.problems[found.path] = exc.strerror or str(exc)

    def _open(self, found: Found, generations: Sequence[Generation]) -> None:
        file = self._files[found.path] = open_file(
            found.target or found.path, is_gzip=found.name.is_gzip, may_read=self._may_read
        )
        if (file.device, file.inode) == (found.device, found.inode):
            file.device, file.inode = found.device, found.inode  # one object of each, for thousands of files
            data = _first_bytes(file)
            size = self._size(file, data, generations)
            self.heads[found.path] = Head(data, found.size if size == found.size else size)

    def _size(self, file: OpenFile, head: bytes, generations: Sequence[Generation]) -> int:
        """Decompressed. The kubelet's gzipped files are complete when they have their name: none is measured twice."""
        measurement = file.measurement
        if measurement is None:
            return file.size()
        known = (g for g in generations if g.is_gzip and g.is_final and g.source.is_container)
        same = (g for g in known if (g.device, g.inode) == (file.device, file.inode) and g.fingerprint.fits(head))
        if (generation := next(same, None)) is not None:
            measurement.close()
            return generation.size
        while not measurement.is_complete and (self._measures_all or measurement.size < MEASURED_AT_ONCE_BYTES):
            measurement.go_on()
        return measurement.size

    def is_measured(self, path: str) -> bool:
        measurement = self._files[path].measurement
        return measurement is None or measurement.is_over

    def take(self, path: str) -> OpenFile:
        """It, and its measurement, are the caller's to close now."""
        return self._files.pop(path)

    def let_go(self) -> None:
        """As if all of them had moved."""
        self.close()
        self._files.clear()
        self.heads.clear()

    def close(self) -> None:
        for file in self._files.values():
            close_both(file, file.measurement)


def open_all(asked: Iterable[Asked], *, measures_all: bool, may_read: Callable[[str], bool]) -> list[Opened]:
    """Of each what must be opened, in the same order. It blocks.

    Nothing of a container whose logs were rotated since they were listed: a name and inode may be another file's by
    now, and that one newer than a file of which the list knows nothing.
    """
    done: list[Opened] = []
    try:
        for each in asked:
            opened = Opened(each.questions, each.generations, measures_all=measures_all, may_read=may_read)
            done.append(opened)
            if opened.heads and _is_outdated(each.family):
                opened.let_go()
    except BaseException:
        for opened in done:
            opened.close()
        raise
    return done


def _is_outdated(family: Family) -> bool:
    """Folders of other logs may change at any time, and tell nothing."""
    return is_container(family.live_path) and changed_ns(folder_of(family.live_path)) != family.listed_ns


def close_both(file: OpenFile, measurement: Measurement | None) -> None:
    file.close()
    if measurement is not None:
        measurement.close()


def _first_bytes(file: OpenFile) -> bytes:
    head = file.read(0, FINGERPRINT_BYTES)
    is_cut = len(head) == FINGERPRINT_BYTES and b"\n" not in head
    return file.read(0, LONGEST_FIRST_LINE_BYTES) if is_cut else head


def is_known_yet(source: Source, head: bytes) -> bool:
    """A container's generation is known by the time of its first line: wait until that has been written."""
    line, newline, _ = head.partition(b"\n")
    return bool(newline) or not source.is_container or is_cri(line) or len(head) >= LONGEST_FIRST_LINE_BYTES


def format_of(source: Source, head: bytes, configured: Format | str) -> Format | None:
    """None: `auto`, and there is no complete line yet that tells."""
    if configured != "auto":
        return configured  # type: ignore[return-value]  # msgspec has checked it
    line, newline, _ = head.partition(b"\n")
    if newline or len(head) >= LONGEST_FIRST_LINE_BYTES:
        return detect_format(line)
    if source.is_container:  # half a first line is all there is: the rest of it will be as runtimes write it
        return "docker" if line.startswith(b"{") else "cri"
    return None


def name_for_ids(source: Source, format_: Format | None, head: bytes) -> tuple[str, bool]:
    """(base, is it random): only a container's generation has an id that its bytes tell."""
    line = head.partition(b"\n")[0]
    if source.is_container and format_ == "cri" and (first := time_ns(line.partition(b" ")[0])):
        return id_base(source, first), False
    if source.is_container and format_ == "docker" and (first := time_ns(docker.columns([line])[0][0])):
        return id_base(source, first), False
    return f"{time.time_ns():x}-{secrets.token_hex(8)}", True
