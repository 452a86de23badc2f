"""The tail input: keeps the catalogue of log files true to what is on disk. It reads none of their records.

Events of the file system make it look at once; a slow rescan repairs what a lost event or a full queue hides; where
inotify is not to be had, it polls.
"""

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from shipper.inputs.tail.catalog import Catalog, Listener
from shipper.inputs.tail.config import TailConfig
from shipper.inputs.tail.discovery import Family, Scan, Scanner
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.paths import folder_of, name_of, pod_source
from shipper.inputs.tail.watch import Batch, Change, changes, wait_for_folder
from shipper.metrics import Metrics
from shipper.tasks import TaskGuard

POLL_S = 0.5  # without inotify
LOOK_AGAIN_S = (0.2, 1.0)  # after a new folder: a file may have come before the watch on it stood
OPENED_AT_ONCE = 64  # files, before it is known whether they may stay open: less than the spare descriptors
SPARE_FILES = 256  # descriptors left for sockets, spool and databases
_ADDED, _MODIFIED = Change.added, Change.modified  # looked up once, not for each event


class Watch(Protocol):
    def __call__(self, root: str, *, recursive: bool) -> AsyncGenerator[Batch, None]:
        """shipper.inputs.tail.watch.changes."""


class TailInput:
    def __init__(
        self,
        config: TailConfig,
        listener: Listener,
        metrics: Metrics,
        *,
        node: str = "",
        own_pod: tuple[str, str] | None = None,
        watch: Watch = changes,
        open_limit: int | None = None,
        before: "TailInput | None" = None,
    ) -> None:
        """`open_limit`: of log files; as many as the system allows where it is None.

        `before`: the input of that name, whose configuration was another one; `take_over` takes its log files over.
        """
        self.config = config
        self._node = node
        self.name = config.name
        self.scanner = Scanner(
            config.path,
            exclude=config.exclude,
            follow=config.follow,
            include_namespaces=config.namespaces.include,
            exclude_namespaces=config.namespaces.exclude,
            own_pod=own_pod,
        )
        if before is None:
            limit = _raise_open_files_limit() if open_limit is None else open_limit
            may_read = self.scanner.may_read
            self.catalog = Catalog(config, listener, metrics, node=node, open_limit=limit, may_read=may_read)
        else:
            self.catalog = before.catalog
        self._changes = watch
        self._excluded = 0
        self._has_scanned = before is not None
        self._lock = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._again: set[str] = set()  # folders to look at once more
        self._again_event = asyncio.Event()
        self._begun: dict[str, int] = {}  # live path -> newest generation before a file of it came that holds something
        self._watched: set[str] = set()  # folders on which a watch stands, or stood
        self._unwatched = asyncio.Event()  # a folder cannot be watched

    def __repr__(self) -> str:
        return f"<TailInput {self.name}: {self.catalog}>"

    @property
    def is_polling(self) -> bool:
        return self._unwatched.is_set()

    def start(self, guard: TaskGuard) -> None:
        """After the first `rescan`: follows what changes."""
        self._tasks = [
            guard.start(self._watch, root, recursive, name=f"watch {root}", endless=True, restart_s=1)
            for root, recursive in sorted(self._roots().items())
        ]
        self._tasks += [
            guard.start(self._rescan_for_ever, name=f"rescan {self.name}", endless=True, restart_s=1),
            guard.start(self._look_again, name=f"look again {self.name}", endless=True, restart_s=1),
            guard.start(self.catalog.measuring.run, name=f"measure {self.name}", endless=True, restart_s=1),
        ]

    @property
    def is_started(self) -> bool:
        return bool(self._tasks)

    def between_scans(self) -> asyncio.Lock:
        """Whoever holds it knows that nothing is looked at meanwhile."""
        return self._lock

    def end(self) -> None:
        """It follows nothing any more. To be called between scans: a scan that is cut off would leave files open."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def take_over(self) -> None:
        """The log files of the input before are its own from now on; the next `rescan` looks at all of them."""
        self.catalog.follow(self.config, node=self._node, may_read=self.scanner.may_read)

    def _roots(self) -> dict[str, bool]:
        """Folders to watch, and whether with all below them."""
        roots = dict.fromkeys(map(str, map(Path, self.config.follow)), True)
        for root, depth in self.scanner.depths():
            roots[root] = roots.get(root, False) or depth > 1
        return roots

    async def _rescan_for_ever(self) -> None:
        while True:
            if self.is_polling:
                await asyncio.sleep(POLL_S)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.config.rescan):
                        await self._unwatched.wait()
            await self.rescan()

    async def _watch(self, root: str, recursive: bool) -> None:
        while True:
            await wait_for_folder(root)
            newest = self.catalog.newest_id
            try:
                async with contextlib.aclosing(self._changes(root, recursive=recursive)) as batches:
                    async for batch in batches:
                        if not batch:  # the watch stands: what came before has not been told
                            self._watched.add(root)
                            self._plan_another_look([root])
                        since, newest = newest, self.catalog.newest_id
                        await self.handle(batch, since=since)
                        if (Change.deleted, root) in batch:
                            break
            except OSError:
                self._unwatched.set()
                await asyncio.Event().wait()  # the rescan polls from now on

    async def handle(self, batch: Batch, *, since: int) -> None:
        """Many events for one file are one look at it; all else is explained by a scan.

        `since`: the newest generation when the batch before was taken.
        """
        folders: set[str] = set()
        added = {path for change, path in batch if change == _ADDED and path not in self.catalog.by_path}
        new = await asyncio.to_thread(_directories, added) if added else set()
        expectant = set(map(folder_of, self._begun))
        by_path, grown = self.catalog.by_path, list[Generation]()
        for change, path in batch:
            known = by_path.get(path)
            if known is not None and change is _MODIFIED:
                grown.append(known)
            elif change == Change.begun:
                folders |= self._expect(path, since)
            elif known is not None:
                folders.add(folder_of(known.source.path))
            elif path in new or change == Change.deleted:
                folders |= {path, *({folder_of(path)} & expectant)}
            elif self.scanner.takes(path):
                folders.add(folder_of(path))
        self.catalog.look_at(grown)
        for folder in topmost(folders | self.catalog.take_doubtful()):
            await self.rescan(folder)
        if new:
            for delay in LOOK_AGAIN_S:
                asyncio.get_running_loop().call_later(delay, self._plan_another_look, topmost(new))

    def _expect(self, path: str, since: int) -> set[str]:
        """A file that holds something is to be found, if not under this name. -> where to look for it."""
        folder, _, file = path.rpartition("/")
        name = name_of(file)
        if name is None or not self.scanner.takes(path):
            return set()
        live_path = f"{folder}/{name.live}"
        if pod_source(self.name, live_path).is_container:  # others are copied and replaced
            self._begun[live_path] = since
        return {folder}

    def _plan_another_look(self, folders: Iterable[str]) -> None:
        self._again.update(folders)
        self._again_event.set()

    async def _look_again(self) -> None:
        while True:
            await self._again_event.wait()
            self._again_event.clear()
            folders, self._again = topmost(self._again), set()
            for folder in folders:
                await self.rescan(folder)

    async def rescan(self, below: str = "/") -> None:
        """Looks at everything (under `below`); the listener hears what has changed."""
        async with self._lock:
            may_skip = not self._has_scanned
            await self._scan(below, may_skip=may_skip)
            for folder in topmost(self.catalog.take_doubtful()):
                await self._scan(folder, may_skip=may_skip)
            if below == "/":
                self._has_scanned = True
                self.catalog.problems.end_round()

    async def _scan(self, below: str, *, may_skip: bool) -> None:
        self.catalog.begin_scan(below.rstrip("/"))
        begun = {path: since for path, since in self._begun.items() if path.startswith(f"{below.rstrip('/')}/")}
        scan = await asyncio.to_thread(self.scanner.scan, below)
        for path, sentence in scan.problems.items():
            self.catalog.problems.note(path, sentence)
        news = [f for f in scan.families.values() if self.catalog.is_news(f) and not self.catalog.has_only_grown(f)]
        for group in _groups(sorted(news, key=_restart_order)):
            await self.catalog.reconcile(group, may_skip=may_skip)
        missing = [p for p in self.catalog.missing(below.rstrip("/"), scan.families) if p not in scan.excluded]
        unread = {folder_of(p) for p in (*missing, *begun)} - scan.folders
        gone = await asyncio.to_thread(_gone, unread) if unread else set()
        gone |= scan.folders
        for live_path in missing:
            if folder_of(live_path) in gone:  # else it cannot be read now, or is none of ours any more
                await self.catalog.reconcile([Family(live_path, [])], may_skip=False)
        for live_path, since in begun.items():
            if folder_of(live_path) in gone:
                self._settle(scan, live_path, since)
        if below == "/":
            self._excluded = len(scan.excluded)

    def _settle(self, scan: Scan, live_path: str, since: int) -> None:
        """A file of this path was written to before the scan: is it a generation's now, or has nobody ever seen it?"""
        family = scan.families.get(live_path, Family(live_path, []))
        is_known = self.catalog.has_newer(live_path, since)
        if not is_known and any(f.size and f.path not in self.catalog.by_path for f in family.files):
            return  # it may be that one, whose bytes do not tell who it is yet
        if self._begun.get(live_path) == since:
            del self._begun[live_path]
        if not is_known and live_path not in scan.problems:
            self.catalog.missed(family)

    def status(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": "tail",
            "path": list(self.config.path),
            "files": len(set(map(id, self.catalog.by_path.values()))),
            "open_files": self.catalog.open_files(),
            "excluded": self._excluded,
            "polling": self.is_polling,
            "unreadable": dict(list(self.catalog.problems.now.items())[:20]),
        }


def _restart_order(family: Family) -> tuple[int, str]:
    """`9.log` before `10.log`: what a container has written first is to be known first."""
    return len(family.live_path), family.live_path


def _groups(families: Iterable[Family]) -> Iterator[list[Family]]:
    """Such as are opened in one go. One with gzipped files, which are measured then, keeps none behind it waiting."""
    group: list[Family] = []
    files = 0
    for family in families:
        group.append(family)
        files += max(1, len(family.files))
        if files >= OPENED_AT_ONCE or any(file.name.is_gzip for file in family.files):
            yield group
            group, files = [], 0
    if group:
        yield group


def topmost(folders: Iterable[str]) -> list[str]:
    """Without those that lie in another."""
    out: list[str] = []
    for folder in sorted(set(folders), key=lambda path: path.split("/")):
        if not out or not _is_below(folder, out[-1]):
            out.append(folder)
    return out


def _directories(paths: Iterable[str]) -> set[str]:
    return {path for path in paths if os.path.isdir(path)}  # noqa: PTH112  # Path.is_dir raises where it may not look


def _gone(folders: Iterable[str]) -> set[str]:
    """Without those that it may not look at."""
    gone = set()
    for folder in folders:
        try:
            Path(folder).stat()
        except (FileNotFoundError, NotADirectoryError):
            gone.add(folder)
        except OSError:
            continue
    return gone


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _raise_open_files_limit() -> int:
    """Raises the soft limit to the hard one. -> how many log files may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else 1 << 20
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    most = min(soft if soft != resource.RLIM_INFINITY else wanted, 65536)
    return max(most // 2, most - SPARE_FILES)
