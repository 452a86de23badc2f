"""What becomes of the objects that watches tell of: into the cache."""

import logging
import time
from collections.abc import Collection
from typing import Protocol

import msgspec

from shipper.filters.kubernetes.cache import MetadataCache
from shipper.filters.kubernetes.pod import UNREADABLE, decode_pod
from shipper.log import fields

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where one watch's news go."""

    def put(self, raw: msgspec.Raw) -> str | None:
        """One object, new or changed, as JSON. -> its uid; None where it cannot be read."""

    def delete(self, uid: str) -> None:
        """It was put once more just before."""

    def complete(self, uids: Collection[str]) -> None:
        """All that exist were told: these."""


class PodSink:
    def __init__(self, cache: MetadataCache) -> None:
        self._cache = cache

    def put(self, raw: msgspec.Raw) -> str | None:
        try:
            pod = decode_pod(raw)
        except UNREADABLE as exc:  # one that nobody understands must not stop the news of all others
            log.warning("the API server told of a pod that cannot be read", extra=fields(error=str(exc)))
            return None
        self._cache.put(pod)
        return pod.uid

    def delete(self, uid: str) -> None:
        self._cache.delete(uid, time.monotonic())

    def complete(self, uids: Collection[str]) -> None:
        self._cache.complete(uids, time.monotonic())


class _Meta(msgspec.Struct, frozen=True):
    uid: str
    name: str
    labels: dict[str, str] | None = None


class _Labelled(msgspec.Struct, frozen=True):
    metadata: _Meta


_labelled = msgspec.json.Decoder(_Labelled)


def _read_labelled(raw: msgspec.Raw, kind: str) -> _Meta | None:
    try:
        return _labelled.decode(raw).metadata
    except UNREADABLE as exc:
        log.warning("the API server told of what cannot be read", extra=fields(kind=kind, error=str(exc)))
        return None


class NamespaceSink:
    def __init__(self, cache: MetadataCache) -> None:
        self._cache = cache
        self._names: dict[str, str] = {}  # by uid

    def put(self, raw: msgspec.Raw) -> str | None:
        meta = _read_labelled(raw, "namespace")
        if meta is None:
            return None
        self._names[meta.uid] = meta.name
        self._cache.set_namespace(meta.name, meta.labels or {})
        return meta.uid

    def delete(self, uid: str) -> None:
        self._names.pop(uid, None)
        self._cache.keep_namespaces(self._names.values())

    def complete(self, uids: Collection[str]) -> None:
        self._names = {uid: name for uid, name in self._names.items() if uid in uids}
        self._cache.keep_namespaces(self._names.values())


class NodeSink:
    """There is one: the watch selects it by name. Its labels stay known when it is deleted."""

    def __init__(self, cache: MetadataCache) -> None:
        self._cache = cache

    def put(self, raw: msgspec.Raw) -> str | None:
        meta = _read_labelled(raw, "node")
        if meta is None:
            return None
        self._cache.set_node_labels(meta.labels or {})
        return meta.uid

    def delete(self, uid: str) -> None: ...

    def complete(self, uids: Collection[str]) -> None: ...
