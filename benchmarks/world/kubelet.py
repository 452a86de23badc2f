"""A kubelet with its container runtime, on a folder: pods come and go, containers write and restart, logs rotate.

All of it in the order of the real ones (pkg/kubelet/logs/container_log_manager.go), with the faults that happen to
them, each as one call. `account` tells what was written, `removed` what is no longer on disk. It has no timer: whoever
drives it says when the next thing happens, so a seed reproduces a run.
"""

import fcntl
import gzip
import random
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.world.account import Account, ContainerAccount
from benchmarks.world.clock import Clock, rotation_suffix
from benchmarks.world.generator import PodPlan, plan_pods
from benchmarks.world.rotation import Action, Step, plan_rotation
from benchmarks.world.runtime import ContainerLog, Stretch


@dataclass(frozen=True, slots=True)
class Settings:
    """The kubelet's: containerLogMaxSize, containerLogMaxFiles, containerLogMonitorInterval.

    `reuse_inodes`: a removed file's inode goes to the next new file, always. ext4 does that nine times in ten.
    """

    max_size: int = 10 * 2**20
    max_files: int = 5
    interval_s: float = 10.0
    reuse_inodes: bool = False


@dataclass(slots=True)
class Pod:
    plan: PodPlan
    folder: Path
    logs: list[ContainerLog] = field(default_factory=list)

    @property
    def log(self) -> ContainerLog:
        return self.logs[0]


@dataclass(frozen=True, slots=True)
class Removed:
    """A file that is gone from the disk: whoever had not read it by then cannot read it any more."""

    path: Path
    stretch: Stretch
    at: float = field(default_factory=time.monotonic)


class Kubelet:
    """Works on `pods_folder` (as /var/log/pods), beside which it keeps what it needs itself."""

    def __init__(
        self, pods_folder: Path, *, seed: int = 1, clock: Clock | None = None, settings: Settings | None = None
    ) -> None:
        self.root = pods_folder
        self.seed = seed
        self.clock = clock or Clock()
        self.settings = settings or Settings()
        self.pods: list[Pod] = []
        self.removed: list[Removed] = []
        self._accounts: list[ContainerAccount] = []
        self._stretches: dict[Path, Stretch] = {}
        self._freed = pods_folder.parent / f".{pods_folder.name}-freed-inodes"
        self._rng = random.Random(seed)
        pods_folder.mkdir(parents=True, exist_ok=True)

    # Pods and containers

    def create_pod(self, plan: PodPlan | None = None, *, containers: Iterable[str] = (), started: bool = True) -> Pod:
        """`containers` beside the plan's own. With `started=False` there are directories only, until `start_pod`."""
        plan = plan or plan_pods(1, self._rng)[0]
        pod = Pod(plan, self.root / plan.folder.partition("/")[0])
        for name in (plan.container, *containers):
            account = plan.account()
            account.container = name
            (pod.folder / name).mkdir(parents=True)
            rng = random.Random(self._rng.random())
            pod.logs.append(ContainerLog(pod.folder / name, account, plan.application, self.clock, rng))
            self._accounts.append(account)
        self.pods.append(pod)
        if started:
            self.start_pod(pod)
        return pod

    def start_pod(self, pod: Pod) -> None:
        for log in pod.logs:
            self._open(log, log.start)

    def restart_container(self, log: ContainerLog, *, last_words: bool = False) -> None:
        """The container ends and begins again, with the next number as its file's name."""
        log.die(last_words=last_words)
        log.restart += 1
        self._open(log, log.start)

    def delete_pod(self, pod: Pod, *, last_words: bool = False) -> None:
        """The pod's containers end, and its directory goes, read or unread. Eviction looks the same from here."""
        self.end_pod(pod, last_words=last_words)
        for path in sorted(pod.folder.rglob("*.log*")):
            self._remove(path)
        shutil.rmtree(pod.folder)
        self.pods.remove(pod)

    def end_pod(self, pod: Pod, *, last_words: bool = False) -> None:
        """The containers end; their files stay, as after a Job."""
        for log in pod.logs:
            if log.running:
                log.die(last_words=last_words)

    @property
    def logs(self) -> list[ContainerLog]:
        return [log for pod in self.pods for log in pod.logs]

    def account(self) -> Account:
        """Of everything written so far, by containers that are gone too."""
        return Account(seed=self.seed, containers=list(self._accounts))

    def unreadable(self) -> dict[tuple[str, str], set[int]]:
        """By container: the records of which not every byte is on disk any more."""
        return self._records_of(self.removed)

    def came_and_went(self, within: Iterable[tuple[float, float]]) -> dict[tuple[str, str], set[int]]:
        """By container: records of files that came and went within one of these spans (time.monotonic())."""
        spans = list(within)
        return self._records_of(
            each for each in self.removed if any(a <= each.stretch.begun_at and each.at <= b for a, b in spans)
        )

    def _records_of(self, removed_files: Iterable[Removed]) -> dict[tuple[str, str], set[int]]:
        gone: dict[tuple[str, str], set[int]] = {}
        for removed in removed_files:
            gone.setdefault(removed.stretch.container.key, set()).update(removed.stretch.records)
        return gone

    # The rotation tick

    def tick(self) -> int:
        """One monitor interval passes: running containers' logs over the size are rotated. Returns how many were."""
        self.clock.advance(self.settings.interval_s)
        rotated = 0
        for log in self.logs:
            if not log.running:
                continue
            if not log.path.exists() or log.path.stat().st_size >= self.settings.max_size:
                self.rotate(log)
                rotated += 1
        return rotated

    def rotate(self, log: ContainerLog, *, die_before: Action | None = None, reopen_fails: bool = False) -> list[Step]:
        """Rotates one log and returns the steps done. Where the live file is missing, it is only reopened.

        `die_before`: the kubelet dies before the first step of that kind; "rename-compressed" leaves a `.tmp`,
        "remove-plain" a file in both forms, "reopen" a container that writes on into the rotated name.
        `reopen_fails`: the name goes back.
        """
        done: list[Step] = []
        for step in self.plan(log):
            if step.action == die_before:
                break
            if step.action == "reopen" and reopen_fails:
                if done and done[-1].target is not None:
                    self._rename(done[-1].target, log.path)
                break
            self._do(step, log)
            done.append(step)
        return done

    def plan(self, log: ContainerLog) -> list[Step]:
        if not log.path.exists():  # an earlier kubelet died between rename and reopen
            return [Step("reopen", log.path)]
        while (log.folder / f"{log.path.name}.{rotation_suffix(self.clock.now_ns())}").exists():
            self.clock.advance(1)  # ticks of a real kubelet are seconds apart
        rotated = [path.name for path in log.folder.glob(f"{log.path.name}.*")]
        suffix = rotation_suffix(self.clock.now_ns())
        return plan_rotation(log.path, rotated, suffix=suffix, max_files=self.settings.max_files)

    def _do(self, step: Step, log: ContainerLog) -> None:
        match step.action, step.target:
            case "reopen", _:
                self._open(log, log.reopen)
            case "delete" | "remove-plain", _:
                self._remove(step.path)
            case "compress", Path() as target:
                with step.path.open("rb") as plain, gzip.GzipFile(target, "wb", mtime=0) as compressed:  # as Go's does
                    shutil.copyfileobj(plain, compressed)
                self._stretches[target] = self._stretches[step.path]
            case _, Path() as target:
                self._rename(step.path, target)

    def _rename(self, path: Path, target: Path) -> None:
        path.rename(target)
        self._stretches[target] = self._stretches.pop(path)

    def _remove(self, path: Path) -> None:
        stretch = self._stretches.pop(path)
        if all(other is not stretch for other in self._stretches.values()):
            self.removed.append(Removed(path, stretch))
        if self.settings.reuse_inodes:
            self._free_inode(path)
        else:
            path.unlink()

    # Inodes

    def _open(self, log: ContainerLog, action: Callable[[], None]) -> None:
        """Runs what opens the log's live file; where inodes are reused, that file begins with one that was freed."""
        if self.settings.reuse_inodes and not log.path.exists():
            freed = min(self._freed.glob("*"), default=None)
            if freed is not None:
                freed.rename(log.path)
        action()
        self._stretches[log.path] = log.stretch

    def _free_inode(self, path: Path) -> None:
        """Removes a file and keeps its inode for the next new one, unless somebody still reads it."""
        self._freed.mkdir(exist_ok=True)
        freed = path.rename(self._freed / str(path.stat().st_ino))
        with freed.open("r+b") as file:
            try:
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # refused while anybody else has it open
            except OSError:
                freed.unlink()
            else:
                file.truncate()
