"""Finds log files: one walk over the globs, without opening anything.

Runs in a thread. A folder's live files and their rotated siblings come out together as a `Family`, the unit that
identity is decided for. Paths are strings, with a leading slash but none at the end: there are thousands in a scan.
"""

# ruff: noqa: PTH100, PTH112, PTH116, PTH118

import fnmatch
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import msgspec

from shipper.inputs.tail.memory import NOTHING, Memory
from shipper.inputs.tail.paths import Name, name_of, pod_of

REST_S = 0.02  # two ticks of the slowest clock that a file system has: a folder at rest so long shows a later change
TRIES = 6  # to list a folder while nothing moves in it

_TOKEN = re.compile(r"\\.|\[[^\]]*\]|\.")  # of a translated glob: escaped, a class, any character


class Found(NamedTuple):
    """One file on disk, as its folder and inode tell."""

    path: str
    name: Name
    device: int
    inode: int
    size: int  # on disk: compressed for a .gz
    modified_ns: int
    target: str = ""  # where it leads, for a link


class Family(msgspec.Struct, gc=False):
    """A live path and its rotated siblings, oldest first. The live file may be missing.

    `listed_ns`: when their folder was changed last, as long as they are all that it has of them.
    """

    live_path: str
    files: list[Found]
    listed_ns: int = -1


class Scan(msgspec.Struct):
    """`folders`: those whose files were read; a family of one of them that is not here is gone."""

    families: dict[str, Family] = msgspec.field(default_factory=dict)
    folders: set[str] = msgspec.field(default_factory=set)
    problems: dict[str, str] = msgspec.field(default_factory=dict)  # path -> why it cannot be read
    excluded: set[str] = msgspec.field(default_factory=set)

    def take(self, other: "Scan") -> None:
        """What another scan has found; two patterns may meet in one folder."""
        self.folders |= other.folders
        self.problems |= other.problems
        self.excluded |= other.excluded
        for family in other.families.values():
            self.add(family)

    def left_out(self) -> frozenset[str]:
        """`excluded`, to be kept: mostly there is nothing."""
        return frozenset(self.excluded) if self.excluded else NOTHING

    def add(self, family: Family) -> None:
        known = self.families.setdefault(family.live_path, family)
        if known is not family:
            paths = {file.path for file in known.files}
            files = known.files + [file for file in family.files if file.path not in paths]
            self.families[family.live_path] = Family(family.live_path, _in_order(files), known.listed_ns)


class Scanner:
    """`patterns` and `exclude` are globs of paths. Links may lead into the folders of `patterns`, and into `follow`."""

    def __init__(
        self,
        patterns: Iterable[str],
        *,
        exclude: Iterable[str] = (),
        follow: Iterable[str] = (),
        include_namespaces: Iterable[str] = (),
        exclude_namespaces: Iterable[str] = (),
        own_pod: tuple[str, str] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.patterns = [os.path.abspath(p) for p in patterns]
        self._parts = [_split(p) for p in self.patterns]
        self._exclude = [_regex(os.path.abspath(p)) for p in exclude]
        self._include_ns, self._exclude_ns = list(include_namespaces), list(exclude_namespaces)
        self._own_pod = own_pod
        self.roots = sorted({_fixed_part(p) for p in self._parts})
        self._follow = [os.path.abspath(p) for p in follow]
        self._memory = memory or Memory()

    def __repr__(self) -> str:
        return f"<Scanner of {', '.join(self.patterns)}>"

    def scan(self, below: str = "/") -> Scan:
        """Everything that matches, under `below` only.

        Of everything, containers' folders in which no name has changed since are not listed again. Where something is
        known to have happened, nothing is believed.
        """
        out = Scan()
        for parts in self._parts:
            self._walk("", parts, below.rstrip("/"), out)
        if below == "/":
            self._memory.end_round()
        return out

    def depths(self) -> list[tuple[str, int]]:
        """The fixed folder of each pattern, and how many parts of it lie below."""
        roots = map(_fixed_part, self._parts)
        return [(root, len(parts) - len(_split(root))) for root, parts in zip(roots, self._parts, strict=True)]

    def takes(self, path: str) -> bool:
        """Whether a scan would look at this file, as far as its path tells."""
        folder, _, file = path.rpartition("/")
        name = name_of(file)
        if name is None or self._is_left_out(folder) or self._is_left_out(folder.rpartition("/")[0]):
            return False
        candidates = (path, f"{folder}/{name.live}")
        return any(_regex(pattern).fullmatch(c) for pattern in self.patterns for c in candidates) and not any(
            regex.fullmatch(c) for regex in self._exclude for c in candidates
        )

    def covers(self, live_path: str, path: str) -> bool:
        """Whether a scan would find this file, of that live path; as far as paths tell."""
        folder = live_path.rpartition("/")[0]
        if self._is_left_out(folder) or self._is_left_out(folder.rpartition("/")[0]):
            return False
        if any(regex.fullmatch(p) for regex in self._exclude for p in (path, live_path)):
            return False
        return any(_regex(pattern).fullmatch(live_path) for pattern in self.patterns)

    def _walk(self, folder: str, parts: list[str], below: str, out: Scan) -> None:
        head, rest = parts[0], parts[1:]
        if not rest:
            if folder == below or folder.startswith(f"{below}/"):
                self._read_folder(folder or "/", head, below, out)
            return
        if head == "**":
            self._walk(folder, rest, below, out)
            for name in self._subfolders(folder, "*", below, out, may_be_link=False):  # links may go round for ever
                self._walk(f"{folder}/{name}", parts, below, out)
        elif not _is_glob(head):
            if self._is_wanted(f"{folder}/{head}", below, out):
                self._walk(f"{folder}/{head}", rest, below, out)
        else:
            for name in self._subfolders(folder, head, below, out, may_be_link=True):
                self._walk(f"{folder}/{name}", rest, below, out)

    def _subfolders(self, folder: str, pattern: str, below: str, out: Scan, *, may_be_link: bool) -> Sequence[str]:
        if below:
            return self._list_subfolders(folder, pattern, below, out, may_be_link=may_be_link)[0]
        listing = self._memory.recall(folder, pattern)
        if listing is not None and self._memory.stands(folder or "/", listing):
            out.excluded |= listing.excluded
            return listing.folders
        began, found = self._memory.begin(folder or "/"), Scan()
        names, has_links = self._list_subfolders(folder, pattern, below, found, may_be_link=may_be_link)
        is_of_pods = pod_of(folder) is not None or any(map(pod_of, names))
        if is_of_pods and not has_links and not found.problems:
            listing = self._memory.note(folder, pattern, began)
            if listing is not None:
                listing.folders, listing.excluded = tuple(names), found.left_out()
        out.take(found)
        return names

    def _list_subfolders(
        self, folder: str, pattern: str, below: str, out: Scan, *, may_be_link: bool
    ) -> tuple[list[str], bool]:
        """-> and whether links are among them, or could be."""
        wanted = below[len(folder) + 1 :].partition("/")[0] if below.startswith(f"{folder}/") else None
        fits = _glob(pattern)
        if wanted is not None and not fits(wanted):
            return [], False
        names, has_links = [], False
        for entry in self._entries(folder or "/", out):
            if (entry.name != wanted) if wanted is not None else not fits(entry.name):
                continue
            is_link = entry.is_symlink()
            has_links = has_links or is_link
            if not entry.is_dir(follow_symlinks=may_be_link):
                continue
            if is_link and not self._may_follow(entry.path, out):
                continue
            if self._is_wanted(f"{folder}/{entry.name}", below, out):
                names.append(entry.name)
        return names, has_links

    def _is_wanted(self, path: str, below: str, out: Scan) -> bool:
        """A pod's folder of a namespace that is left out is not even entered."""
        if path != below and not below.startswith(f"{path}/") and not path.startswith(f"{below}/"):
            return False
        if self._is_left_out(path):
            out.excluded.add(path)
            return False
        return True

    def _is_left_out(self, folder: str) -> bool:
        pod = pod_of(folder)
        if pod is None:
            return False
        if self._include_ns and not any(_glob(g)(pod[0]) for g in self._include_ns):
            return True
        return pod == self._own_pod or any(_glob(g)(pod[0]) for g in self._exclude_ns)

    def _entries(self, folder: str, out: Scan) -> "list[os.DirEntry[str]]":
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as exc:
            out.problems[folder] = exc.strerror or str(exc)
            return []

    def _read_folder(self, folder: str, pattern: str, below: str, out: Scan) -> None:
        """A container's: what it held at one moment. A listing misses what is renamed meanwhile, and takes what is
        newer for the next. (In a folder of other logs anything may move at any time; names tell their order.)

        Where something moves for ever, the last try is what there is.
        """
        if not below and self._recall(folder, pattern, out):
            return
        is_container = pod_of(folder.rpartition("/")[0]) is not None
        began, listed_ns = self._memory.begin(folder) if is_container and not below else None, -1
        for left in reversed(range(TRIES if is_container else 1)):
            rested_ns, listed_ns = listed_ns, changed_ns(folder)
            is_at_rest = listed_ns == rested_ns or abs(time.time_ns() - listed_ns) > REST_S * 1e9
            listing, has_links = self._list(folder, pattern, listed_ns)
            if listing is None or not left or (is_at_rest and changed_ns(folder) == listed_ns):
                break
            time.sleep(REST_S)
        if listing is None:
            return
        if began is not None and not has_links and not listing.problems:
            noted = self._memory.note(folder, pattern, began)
            if noted is not None:
                noted.families, noted.excluded = tuple(listing.families.values()), listing.left_out()
        out.take(listing)

    def _recall(self, folder: str, pattern: str, out: Scan) -> bool:
        """Looks at the files that it held when it was listed. -> whether these are what it holds now."""
        known = self._memory.recall(folder, pattern)
        if known is None:
            return False
        families: list[Family] = []
        for family in known.families:
            again = _again(family)
            if again is None:
                return False
            families.append(again)
        if not self._memory.stands(folder, known):
            return False
        known.families = tuple(families)
        for family in families:
            out.add(family)
        out.folders.add(folder)
        out.excluded |= known.excluded
        return True

    def _list(self, folder: str, pattern: str, listed_ns: int) -> tuple[Scan | None, bool]:
        """-> and whether links are among its files, or could be."""
        out, has_links = Scan(), False
        found = self._entries(folder, out)
        if not found and (folder in out.problems or not os.path.isdir(folder)):
            return out if out.problems else None, False
        out.folders.add(folder)
        fits = _glob(pattern)
        live = {e.name for e in found if fits(e.name)}
        for entry in found:
            name = name_of(entry.name, known=live)
            if name is None or not (name.live in live or fits(name.live)):
                continue
            live_path = entry.path if name.is_live else os.path.join(folder, name.live)
            if self._exclude and any(regex.fullmatch(p) for regex in self._exclude for p in (entry.path, live_path)):
                out.excluded.add(live_path)
                continue
            has_links = has_links or entry.is_symlink()
            file = self._look(entry, name, out)
            if file is not None:
                out.families.setdefault(live_path, Family(live_path, [], listed_ns)).files.append(file)
        for family in out.families.values():
            family.files = _in_order(family.files)
        return out, has_links

    def _look(self, entry: "os.DirEntry[str]", name: Name, out: Scan) -> Found | None:
        target = ""
        try:
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if not self._may_follow(entry.path, out):
                    return None
                info = os.stat(target, follow_symlinks=False)
            else:
                info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as exc:
            out.problems[entry.path] = exc.strerror or str(exc)
            return None
        if not stat.S_ISREG(info.st_mode):
            if not stat.S_ISDIR(info.st_mode):
                out.problems[entry.path] = "is not a regular file"
            return None
        return Found(entry.path, name, _same(info.st_dev), info.st_ino, info.st_size, info.st_mtime_ns, target)

    def may_read(self, real: str) -> bool:
        """`real`: a path without links; where it begins as a folder is configured, that folder has none either."""
        folders = (*self.roots, *self._follow)
        return any(_is_in(real, folder) for folder in folders) or any(
            _is_in(real, os.path.realpath(folder)) for folder in folders
        )

    def _may_follow(self, path: str, out: Scan) -> bool:
        real = os.path.realpath(path)
        if self.may_read(real):
            return True
        out.problems[path] = (
            f"is a link to {real}, outside of the input's folders; "
            "add its folder to the input's `follow` if that is meant"
        )
        return False


@cache
def _same(device: int) -> int:
    """One object for all files of a file system."""
    return device


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def changed_ns(folder: str) -> int:
    """When a name in it was changed last, as far as its clock tells; -1 where there is none."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


def _again(family: Family) -> Family | None:
    """With the sizes that its files have now; itself where these are the same, None where a file is another one."""
    grown: dict[int, Found] = {}
    for place, (path, _, device, inode, size, modified_ns, _) in enumerate(family.files):
        try:
            info = os.lstat(path)
        except OSError:
            return None
        if info.st_ino != inode or info.st_dev != device:
            return None
        if info.st_size != size or info.st_mtime_ns != modified_ns:
            grown[place] = family.files[place]._replace(size=info.st_size, modified_ns=info.st_mtime_ns)
    if not grown:
        return family
    files = [grown.get(place, file) for place, file in enumerate(family.files)]
    return Family(family.live_path, files, family.listed_ns)


def _in_order(files: list[Found]) -> list[Found]:
    """Oldest first, and without doubles."""
    if len(files) < 2:
        return files[:]  # without the room that a list keeps to grow
    paths = {file.path for file in files if not file.name.is_live}
    return sorted(
        (file for file in files if not _is_double(file, paths)), key=lambda file: (file.name.order, file.path)
    )


def _is_double(file: Found, paths: set[str]) -> bool:
    """Rotated files exist in both forms while they are compressed: plain wins."""
    return file.name.is_gzip and file.path.removesuffix(".gz") in paths


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _is_glob(part: str) -> bool:
    return any(c in part for c in "*?[")


def _fixed_part(parts: list[str]) -> str:
    """The deepest folder that holds all matches."""
    fixed = []
    for part in parts[:-1]:
        if _is_glob(part):
            break
        fixed.append(part)
    return "/" + "/".join(fixed)


@cache
def _glob(pattern: str) -> Callable[[str], object]:
    """`fnmatch.fnmatchcase` for one pattern, which is asked for thousands of names."""
    return re.compile(fnmatch.translate(pattern)).match


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    """A glob over a whole path: `*` stops at a slash, `**` is any number of folders."""
    out = []
    for part in pattern.split("/"):
        if part == "**":
            out.append(r"(?:[^/]+/)*")
            continue
        piece = fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
        out.append(_TOKEN.sub(lambda m: "[^/]" if m[0] == "." else m[0], piece) + "/")
    return re.compile("".join(out).removesuffix("/"), re.DOTALL)
