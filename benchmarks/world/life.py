"""A node's life by chance: what a kubelet, its containers and its clock do to log files, one seeded step at a time."""

import random
from collections import Counter
from collections.abc import Callable, Collection

from benchmarks.world.kubelet import Kubelet, Pod
from benchmarks.world.rotation import Action
from benchmarks.world.runtime import ContainerLog

DEATHS: tuple[Action, ...] = ("rename-compressed", "remove-plain", "rename-live", "reopen")
WEIGHTS = {
    "write": 60,
    "tick": 10,
    "half_line": 5,
    "record_over_rotation": 5,
    "interleaved": 4,
    "refused": 2,
    "rotate": 4,
    "reopen_fails": 2,
    "kubelet_dies": 3,
    "restart": 3,
    "stops_inside_a_record": 1,
    "new_pod": 3,
    "pod_without_files": 1,
    "delete_pod": 2,
    "brief_pod": 2,
    "clock_step": 1,
}


class Life:
    """Drives `kubelet`. The same seed and the same kubelet give the same files, byte for byte.

    `without`: events, by their names in WEIGHTS, that do not happen here. `patience`: what takes time (the rest of a
    line, the end of a record, the files of a new pod's directories) comes up to so many steps later; 0: at once.
    """

    def __init__(
        self,
        kubelet: Kubelet,
        *,
        seed: int,
        max_pods: int = 12,
        burst: int = 50,
        without: Collection[str] = (),
        patience: int = 0,
    ) -> None:
        self.kubelet = kubelet
        self.steps = 0
        self.done: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._max_pods = max_pods
        self._burst = burst
        self._weights = {name: weight for name, weight in WEIGHTS.items() if name not in without}
        self._patience = patience
        self._later: list[tuple[int, Callable[[], None]]] = []  # at which step

    def step(self) -> str:
        """One thing happens, and what was to come by now; returns its name."""
        self.steps += 1
        due = [act for step, act in self._later if step <= self.steps]
        self._later = [(step, act) for step, act in self._later if step > self.steps]
        for act in due:
            act()
        name = self._rng.choices(list(self._weights), weights=list(self._weights.values()))[0]
        if not self.kubelet.pods:
            name = "new_pod"
        getattr(self, f"_{name}")()
        self.done[name] += 1
        return name

    def rest(self) -> None:
        """All that was begun comes to its end; after it, nothing happens any more."""
        for _, act in sorted(self._later, key=lambda pair: pair[0]):
            act()
        self._later = []

    def _soon(self, act: Callable[[], None]) -> None:
        delay = self._rng.randrange(self._patience + 1)
        if delay:
            self._later.append((self.steps + delay, act))
        else:
            act()

    def _any_pod(self) -> Pod:
        return self._rng.choice(self.kubelet.pods)

    def _any_log(self) -> ContainerLog:
        """One that may be written to; where all are busy, any pod's next container comes into being."""
        free = [log for log in self.kubelet.logs if log.is_between_records]
        return self._rng.choice(free) if free else self._create_pod().log

    def _create_pod(self, *, containers: Collection[str] = (), started: bool = True) -> Pod:
        return self.kubelet.create_pod(containers=containers, started=started)

    def _write(self) -> None:
        self._any_log().write(self._rng.randrange(1, self._burst))

    def _refused(self) -> None:
        self._any_log().write_refused()

    def _tick(self) -> None:
        self.kubelet.tick()

    def _half_line(self) -> None:
        """A rotation, perhaps, finds a line half written."""
        log = self._any_log()
        log.write_half_line()
        self._soon(log.write_rest)

    def _record_over_rotation(self) -> None:
        log = self._any_log()
        log.begin_long()
        self.kubelet.rotate(log)
        self._soon(log.end_long)

    def _interleaved(self) -> None:
        log = self._any_log()
        log.begin_long()
        log.interject()
        self._soon(log.end_long)

    def _rotate(self) -> None:
        self.kubelet.rotate(self._any_log())

    def _reopen_fails(self) -> None:
        self.kubelet.rotate(self._any_log(), reopen_fails=True)

    def _kubelet_dies(self) -> None:
        log = self._any_log()
        self.kubelet.rotate(log, die_before=self._rng.choice(DEATHS))
        log.write(3)

    def _restart(self) -> None:
        self.kubelet.restart_container(self._any_log(), last_words=self._rng.random() < 0.5)

    def _stops_inside_a_record(self) -> None:
        log = self._any_log()
        log.begin_long()
        self._soon(lambda: self._restart_inside(log))

    def _restart_inside(self, log: ContainerLog) -> None:
        if log.running:  # else its pod is gone
            self.kubelet.restart_container(log)

    def _new_pod(self) -> None:
        if len(self.kubelet.pods) < self._max_pods:
            self._create_pod(containers=("sidecar",) if self._rng.random() < 0.2 else ()).log.write()

    def _pod_without_files(self) -> None:
        pod = self._create_pod(started=False)
        self._soon(lambda: self._start(pod))

    def _start(self, pod: Pod) -> None:
        if not self._is_gone(pod):
            self.kubelet.start_pod(pod)

    def _is_gone(self, pod: Pod) -> bool:
        return pod not in self.kubelet.pods

    def _delete_pod(self) -> None:
        self.kubelet.delete_pod(self._any_pod(), last_words=self._rng.random() < 0.5)

    def _brief_pod(self) -> None:
        """Born, writes and is gone before anybody has looked twice."""
        pod = self._create_pod()
        pod.log.write(self._rng.randrange(1, 10))
        self._soon(lambda: self._delete(pod))

    def _delete(self, pod: Pod) -> None:
        if not self._is_gone(pod):
            self.kubelet.delete_pod(pod)

    def _clock_step(self) -> None:
        self.kubelet.clock.advance(self._rng.choice((-3600.0, 3600.0)))
