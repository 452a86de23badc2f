"""The node that is tortured: pods that come, write and go, and the API server that knows of them before they write."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.torture.diary import Diary
from benchmarks.torture.pace import Pace
from benchmarks.world.account import ContainerAccount
from benchmarks.world.clock import Clock
from benchmarks.world.generator import plan_pods
from benchmarks.world.kubelet import Kubelet, Pod, Settings
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.life import Life
from benchmarks.world.rotation import Action, Step
from benchmarks.world.runtime import ContainerLog

NAME = "torture-node"
ARCHIVE = {"shipper.io/archive": "true"}
LOG_BYTES = 60_000  # a log is rotated when it is larger
TICK_S = 10.0  # simulated, of the kubelet
PATIENCE_S = 1.0  # ours: so long a record stays open, at most. A newer file waits 5 s for the end of an older one
REST_S = 3.0  # ours
EVER = 1000  # files: none is removed
KINDS = 10  # of applications

Accounts = Iterable[Mapping[str, Any]]


def is_archived(container: ContainerAccount) -> bool:
    return container.annotations == ARCHIVE


class SlowKubelet(Kubelet):
    """Rotates no log twice within REST_S of ours: a real one leaves ten seconds between two rotations, in which the
    daemon commits several times what files there are. (Compressed like all else, a file could come and go between two
    commits, and nobody could know of it.)
    """

    def rotate(self, log: ContainerLog, *, die_before: Action | None = None, reopen_fails: bool = False) -> list[Step]:
        now, last = time.monotonic(), self._rotated_at.get(log.folder, 0.0)
        if now - last < REST_S:
            return []
        self._rotated_at[log.folder] = now
        return super().rotate(log, die_before=die_before, reopen_fails=reopen_fails)

    @cached_property
    def _rotated_at(self) -> dict[Path, float]:
        return {}


class TorturedNode(Life):
    """With `keeps_unread`, a pod's directory is deleted only when the daemon has each file of it in its hands, and its
    pod stays in the API until all of it is delivered. Without, both happen whenever they happen.
    """

    def __init__(
        self,
        folder: Path,
        api: FakeKubernetesApi,
        pace: Pace,
        *,
        seed: int,
        step_s: float,
        keeps_unread: bool,
        diary: Diary,
        without: Collection[str] = (),
    ) -> None:
        self.api = api
        self.keeps_unread = keeps_unread
        self.may_delete = True
        self.may_step_back: Callable[[], bool] = lambda: False
        self.changed_at = 0.0  # time.monotonic() of the last change of which the daemon's state must know
        self.containers: list[ContainerLog] = []  # all that ever were
        self.doomed: list[Pod] = []  # their containers have ended; their files are still there
        self.deleted: list[Pod] = []  # and are not, but the API server and the daemon are not done with them
        self._pace, self._diary = pace, diary
        self._since_tick_s = 0.0
        start_ns = time.time_ns() - int(pace.minutes * 60 * 10**9)
        settings = Settings(max_size=LOG_BYTES, max_files=EVER if keeps_unread else 5, interval_s=0, reuse_inodes=True)
        make = Kubelet if keeps_unread else SlowKubelet
        kubelet = make(folder, seed=seed, clock=Clock(start_ns - start_ns % 1000), settings=settings)
        patience = round(PATIENCE_S / step_s)
        super().__init__(kubelet, seed=seed, patience=patience, without=("tick", *without))
        api.put_node(NAME)

    def step(self) -> str:
        """And time passes; the kubelet looks at the logs' sizes every TICK_S."""
        self.kubelet.clock.advance(self._pace.step_s)
        self._since_tick_s += self._pace.step_s
        if self._since_tick_s >= TICK_S:
            self._since_tick_s %= TICK_S
            self.kubelet.tick()
            self.done["tick"] += 1
        return super().step()

    def _create_pod(self, *, containers: Collection[str] = (), started: bool = True) -> Pod:
        plan = self._rng.choice(plan_pods(KINDS, self._rng))
        if self._rng.random() < 0.5:
            plan = replace(plan, annotations=ARCHIVE)
        self.api.add_pod(
            plan.name,
            namespace=plan.namespace,
            uid=plan.uid,
            node=NAME,
            containers=[plan.container, *containers],
            labels=plan.labels,
            annotations=plan.annotations,
        )
        pod = self.kubelet.create_pod(plan, containers=containers, started=started)
        self.containers += pod.logs
        return pod

    def _delete_pod(self) -> None:
        pods = [pod for pod in self.kubelet.pods if pod not in self.doomed]
        if pods:
            self._delete(self._rng.choice(pods), last_words=self._rng.random() < 0.5)

    def _delete(self, pod: Pod, *, last_words: bool = False) -> None:
        if self._is_gone(pod):
            return
        self.kubelet.end_pod(pod, last_words=last_words)
        if self.keeps_unread:
            self.doomed.append(pod)
        else:
            self._remove(pod)

    def _clock_step(self) -> None:
        """Back only while all files are known: the names of several that were rotated while nobody watched would tell
        a wrong order, and nothing else tells the right one.
        """
        seconds = self._rng.choice((-3600.0, 3600.0))
        if seconds < 0 and not self.may_step_back():
            return
        self.kubelet.clock.advance(seconds)
        self._diary.note(f"the clock steps by {seconds:.0f} s")
        self.changed_at = time.monotonic()

    @property
    def live_files(self) -> list[Path]:
        """Those that hold something."""
        return [log.path for log in self.kubelet.logs if log.path.exists() and log.path.stat().st_size]

    def _is_gone(self, pod: Pod) -> bool:
        return super()._is_gone(pod) or pod in self.doomed

    def _remove(self, pod: Pod) -> None:
        self._diary.note(f"deleted: {pod.plan.folder}")
        self.kubelet.delete_pod(pod)
        self.changed_at = time.monotonic()
        self.deleted.append(pod)

    # -- deletions that take nothing away -----------------------------------------------------------------------------

    def delete_seen(self, accounts: Accounts, holds: Callable[[Iterable[Path]], bool]) -> None:
        """Directories of doomed pods of which the daemon has seen every byte, and has the live files open."""
        if not self.may_delete:
            return
        seen = _sums(accounts, "seen")
        for pod in list(self.doomed):
            is_seen = all(
                set(seen.get(_key(log.account), ())) == {log.account.bytes} for log in pod.logs if log.account.bytes
            )
            files = [log.path for log in pod.logs if log.path.exists() and log.path.stat().st_size]
            if is_seen and holds(files):
                self.doomed.remove(pod)
                self._remove(pod)

    def forget_delivered(self, accounts: Accounts) -> None:
        """The API server forgets deleted pods of which nothing is pending any more."""
        pending = _sums(accounts, "pending")
        for pod in list(self.deleted):
            if not any(sum(pending.get(_key(log.account), (1,) if log.account.bytes else ())) for log in pod.logs):
                self.deleted.remove(pod)
                self.api.delete_pod(pod.plan.name, namespace=pod.plan.namespace)


def _key(account: ContainerAccount) -> tuple[str, str, str]:
    return account.namespace, account.pod, account.container


def _sums(accounts: Accounts, what: str) -> dict[tuple[str, str, str], list[int]]:
    """By container: of each output."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for account in accounts:
        found.setdefault((account["namespace"], account["pod"], account["container"]), []).append(account[what])
    return found


def crowd(api: FakeKubernetesApi, rng: random.Random, *, here: int, elsewhere: int) -> None:
    """Pods that write nothing; some thousand, as a large cluster has them."""
    for number in range(here + elsewhere):
        node = NAME if number < here else f"node-{number % 50}"
        api.add_pod(f"silent-{number}-{rng.getrandbits(20):05x}", namespace="crowd", node=node)
