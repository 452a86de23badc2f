"""Pods, and the answers that were given about their containers. No I/O, no clock: `now` is monotonic."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from sys import intern
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from shipper.filters.base import Lookup, Metadata
from shipper.filters.kubernetes.metadata import Describer, Labels
from shipper.filters.kubernetes.pod import Pod, Run, pack, pack_pod, unpack_pod
from shipper.record import Source

KEEP_DELETED_S = 60.0  # a deleted pod's last file may be found later than the deletion is heard
KEEP_RUNS = 2  # answers about older runs of a restarted container are forgotten, and made again when asked for

_Key = tuple[str, str, int | None]  # uid of the path, container, restart count


class _Answer(NamedTuple):
    uid: str
    container: str
    restart: int | None
    digest: bytes

    @property
    def key(self) -> _Key:
        return self[:3]


class _Entry(msgspec.Struct, gc=False):
    """A pod is kept packed, which takes a fifth of the memory: most write no log here, and of the others what matters
    stands in the plans of their containers. `answers`: those that were given; mostly there is one.
    """

    packed: bytes
    namespace: str
    deleted_at: float | None = None
    answers: tuple[_Answer, ...] = ()

    @property
    def pod(self) -> Pod:
        return unpack_pod(self.packed)

    def take(self, pod: Pod) -> bool:
        """-> whether it differs from what was known."""
        packed = pack_pod(pod)
        if packed == self.packed:
            return False
        self.packed = packed
        return True


class MetadataCache:
    """Answers by what a log's path says. A pod is found by its uid, a static pod by its manifest's hash too.

    News come from the watch (`put`, `delete`, `complete`), from the GET of one pod (`put`, `set_absent`) and from the
    snapshot (`put`). Whoever changes an answer that was given has the callbacks called, within that call.
    """

    def __init__(self, describer: Describer) -> None:
        self._describer = describer
        self._entries: dict[str, _Entry] = {}  # by the API's uid
        self._held = WeakValueDictionary[bytes, Metadata]()  # answers that somebody has still, by digest
        self._manifests: dict[str, str] = {}  # a static pod's hash -> uid
        self._absent: set[str] = set()  # uids of paths
        self._namespaces: dict[str, Labels] = {}
        self._node_labels: Labels = {}
        self._callbacks: list[Callable[[str], None]] = []
        self.revision = 0  # grows whenever what a snapshot holds has changed

    def __repr__(self) -> str:
        return f"<MetadataCache of {len(self._entries)} pods>"

    def __len__(self) -> int:
        return sum(entry.deleted_at is None for entry in self._entries.values())

    def pods(self) -> Iterator[Pod]:
        """All that are known, deleted ones included."""
        return (entry.pod for entry in self._entries.values())

    def packed_pods(self) -> Iterator[bytes]:
        """The same, as `pack_pod` gives them."""
        return (entry.packed for entry in self._entries.values())

    @property
    def namespaces(self) -> dict[str, Labels]:
        return self._namespaces

    @property
    def node_labels(self) -> Labels:
        return self._node_labels

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def lookup(self, source: Source) -> Metadata | Lookup:
        entry = self._find(source)
        if entry is None:
            return Lookup.ABSENT if source.uid is None or source.uid in self._absent else Lookup.UNKNOWN
        key = (source.uid or "", source.container or "", source.restart)
        given = next((each.digest for each in entry.answers if each.key == key), b"")
        answer = self._held.get(given)
        if answer is None:
            answer = self._describe(entry.pod, key)
            digest = _digest(answer)
            if digest != given:
                entry.answers = (*(each for each in entry.answers if each.key != key), _Answer(*key, digest))
            answer = self._held.setdefault(digest, answer)
        return answer

    def put(self, pod: Pod) -> None:
        entry = self._entries.get(pod.uid)
        if entry is None:
            self._entries[intern(pod.uid)] = _Entry(pack_pod(pod), pod.namespace)  # as its logs' paths have it
            self._found(pod)
            return
        entry.deleted_at = None
        if entry.take(pod):
            self._renew([entry])

    def delete(self, uid: str, now: float) -> None:
        """It stays known for as long as somebody may have lines of it to read."""
        entry = self._entries.get(uid)
        if entry is not None and entry.deleted_at is None:
            entry.deleted_at = now

    def complete(self, uids: Collection[str], now: float) -> None:
        """A list has ended: no others exist."""
        for uid in self._entries.keys() - set(uids):
            self.delete(uid, now)

    def set_absent(self, path_uid: str) -> None:
        """A GET has said so."""
        self._absent.add(path_uid)
        self._tell([path_uid])

    def set_namespace(self, name: str, labels: Labels) -> None:
        if self._namespaces.get(name) != labels:
            self._namespaces[name] = labels
            self._renew(entry for entry in self._entries.values() if entry.namespace == name)

    def keep_namespaces(self, names: Collection[str]) -> None:
        """The others do not exist; that of a deleted pod stays known with it."""
        used = {entry.namespace for entry in self._entries.values()}
        for name in self._namespaces.keys() - used - set(names):
            del self._namespaces[name]

    def set_node_labels(self, labels: Labels) -> None:
        if self._node_labels != labels:
            self._node_labels = labels
            self._renew(self._entries.values())

    def retain(self, path_uids: Collection[str], now: float) -> None:
        kept = set(path_uids)
        self._absent &= kept
        for entry in list(self._entries.values()):
            if entry.deleted_at is None or now - entry.deleted_at < KEEP_DELETED_S:
                continue
            if kept.isdisjoint(entry.pod.path_uids):
                self._forget(entry.pod)

    def _find(self, source: Source) -> _Entry | None:
        uid = source.uid or ""
        if uid in self._entries:
            return self._entries[uid]
        entry = self._entries.get(self._manifests.get(uid, ""))
        # a manifest's hash is an annotation, which anybody may write: it counts only together with the name
        if entry and (entry.pod.namespace, entry.pod.name) == (source.namespace, source.pod):
            return entry
        return None

    def _describe(self, pod: Pod, key: _Key) -> Metadata:
        uid, container, restart = key
        return self._describer.describe(
            pod,
            uid=uid,
            container=container,
            restart=restart,
            namespace_labels=self._namespaces.get(pod.namespace, {}),
            node_labels=self._node_labels,
        )

    def _found(self, pod: Pod) -> None:
        if pod.manifest:
            self._manifests[pod.manifest] = pod.uid
        self._absent.difference_update(pod.path_uids)
        self.revision += 1
        self._tell(pod.path_uids)

    def _renew(self, entries: Iterable[_Entry]) -> None:
        """Makes given answers again; one that comes out equal stays the object that it was, where somebody has it."""
        self.revision += 1
        changed: set[str] = set()
        for entry in entries:
            _drop_old_runs(entry)
            if not entry.answers:
                continue
            pod = entry.pod
            answers = tuple(each._replace(digest=_digest(self._describe(pod, each.key))) for each in entry.answers)
            changed.update(new.uid for old, new in zip(entry.answers, answers, strict=True) if new != old)
            entry.answers = answers
        self._tell(changed)

    def _forget(self, pod: Pod) -> None:
        del self._entries[pod.uid]
        if self._manifests.get(pod.manifest) == pod.uid:
            del self._manifests[pod.manifest]
        self.revision += 1

    def _tell(self, path_uids: Iterable[str]) -> None:
        for uid in path_uids:
            for callback in self._callbacks:
                callback(uid)


def _digest(answer: Metadata) -> bytes:
    values = (answer.document, answer.labels, answer.annotations, answer.excluded, answer.terminated)
    return hashlib.blake2b(pack(values), digest_size=16).digest()


def _drop_old_runs(entry: _Entry) -> None:
    runs = entry.pod.runs if entry.answers else {}
    entry.answers = tuple(each for each in entry.answers if not _is_old(each, runs.get(each.container)))


def _is_old(answer: _Answer, run: Run | None) -> bool:
    return run is not None and answer.restart is not None and answer.restart < run.restarts - KEEP_RUNS
