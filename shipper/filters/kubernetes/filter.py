"""The kubernetes filter: watches, single questions and the snapshot around one cache."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from shipper.filters.base import Lookup, Metadata
from shipper.filters.kubernetes.api import ApiError, KubernetesApi
from shipper.filters.kubernetes.cache import MetadataCache
from shipper.filters.kubernetes.check import Finding, check_access
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.kubernetes.metadata import Describer
from shipper.filters.kubernetes.node import MEND, find_node, get_pod
from shipper.filters.kubernetes.pace import Pace
from shipper.filters.kubernetes.pod import UNREADABLE
from shipper.filters.kubernetes.questions import Question, Questions
from shipper.filters.kubernetes.sinks import NamespaceSink, NodeSink, PodSink
from shipper.filters.kubernetes.snapshot import PackedSnapshot, SnapshotFile
from shipper.filters.kubernetes.watch import Watch
from shipper.log import fields
from shipper.metrics import Metrics
from shipper.record import Source
from shipper.tasks import TaskGuard

log = logging.getLogger(__name__)

RESTART_S = 1.0


class KubernetesFilter:
    """Implements shipper.filters.base.MetadataSource. With `api: off` it knows this node's name, at most."""

    def __init__(self, config: KubernetesConfig, metrics: Metrics, *, pace: Pace | None = None) -> None:
        self.name = config.name
        self._config = config
        self._metrics = metrics
        self._pace = pace or Pace()
        self._api = None if config.api == "off" else KubernetesApi(config.api, metrics, self._pace)
        self._cache = MetadataCache(Describer(config))
        self._questions = Questions(self._pace)
        self._cache.on_change(self._questions.close)
        self._asked = asyncio.Event()
        self._node = config.node_name or ""
        self._node_found = asyncio.Event()
        self._off = Metadata(document={"host": self._node} if self._node else {})
        self._watch: Watch | None = None
        self._began = time.monotonic()
        self._file: SnapshotFile | None = None
        self._saved_revision = 0

    def __repr__(self) -> str:
        return f"<KubernetesFilter {self.name} on {self._node or 'an unknown node'}: {self._cache}>"

    @property
    def node(self) -> str:
        """Name of this node; "" while it is not known."""
        return self._node

    def lookup(self, source: Source) -> Metadata | Lookup:
        if self._api is None:
            return self._off
        answer = self._cache.lookup(source)
        if answer is Lookup.UNKNOWN and self._questions.ask(source, time.monotonic()):
            self._asked.set()
        return answer

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._cache.on_change(callback)

    def retain(self, uids: Collection[str]) -> None:
        now = time.monotonic()
        self._cache.retain(uids, now)
        self._questions.retain(uids, now)

    async def start(self, state_dir: str | None) -> None:
        if state_dir is None or self._api is None:
            return
        self._file = SnapshotFile(Path(state_dir) / f"metadata-{self.name}.json")
        try:
            snapshot = await asyncio.to_thread(self._file.load)
        except (OSError, ValueError) as exc:
            log.warning("the snapshot of pods cannot be read and is begun anew", extra=fields(error=str(exc)))
            return
        self._cache.set_node_labels(snapshot.node_labels)
        for name, labels in snapshot.namespaces.items():
            self._cache.set_namespace(name, labels)
        for pod in snapshot.pods:
            self._cache.put(pod)
        self._saved_revision = self._cache.revision

    async def run(self) -> None:
        if self._api is None:
            await asyncio.Event().wait()
            return
        async with TaskGuard(errors=self._metrics.task_errors) as guard:
            guard.start(self._watch_all, self._api, name=f"{self.name}: watch", endless=True, restart_s=RESTART_S)
            guard.start(self._answer_all, self._api, name=f"{self.name}: ask", endless=True, restart_s=RESTART_S)
            guard.start(self._save_all, name=f"{self.name}: save", endless=True, restart_s=RESTART_S)

    async def close(self) -> None:
        await self.save()
        if self._api is not None:
            await self._api.close()

    async def check(self) -> list[Finding]:
        """(whether it works, what was tried, how to mend it), for `shipper check --online`."""
        if self._api is None:
            return [(True, "metadata is off", "")]
        return await check_access(
            self._api,
            self._node,
            namespaces=bool(self._config.namespace_labels),
            nodes=bool(self._config.node_labels),
        )

    def pods(self) -> int:
        return len(self._cache)

    def watch_age_s(self) -> float:
        """Since the API server last said anything on the watch of pods, or since the start; 0 with `api: off`."""
        if self._api is None:
            return 0.0
        return time.monotonic() - (self._watch.heard_at if self._watch else self._began)

    def status(self) -> dict[str, Any]:
        if self._api is None:
            return {"api": "off", "node": self._node}
        return {
            "node": self._node,
            "pods": self.pods(),
            "unanswered": len(self._questions),
            "complete": self._watch is not None and self._watch.is_complete,
            "version": self._watch.version if self._watch else "",
            "watch_age_s": round(self.watch_age_s(), 1),
            "error": self._watch.error if self._watch else "",
        }

    async def _watch_all(self, api: KubernetesApi) -> None:
        """Labels of namespaces and node first, for a moment: so the pods' metadata is made once, and whole."""
        await self._find_node(api)
        config, pace = self._config, self._pace
        beside: list[Watch] = []
        if config.namespace_labels:
            beside.append(Watch(api, "/api/v1/namespaces", NamespaceSink(self._cache), pace))
        if config.node_labels:
            beside.append(
                Watch(api, "/api/v1/nodes", NodeSink(self._cache), pace, selector=f"metadata.name={self._node}")
            )
        self._watch = pods = Watch(
            api, "/api/v1/pods", PodSink(self._cache), pace, selector=f"spec.nodeName={self._node}"
        )
        async with TaskGuard(errors=self._metrics.task_errors) as guard:
            for watch in beside:
                guard.start(watch.run, name=f"{self.name}: {watch.path}", endless=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(pace.settle_s):
                    for watch in beside:
                        await watch.settled.wait()
            guard.start(pods.run, name=f"{self.name}: {pods.path}", endless=True)

    async def _find_node(self, api: KubernetesApi) -> None:
        """By asking for our own pod; or from the first pod whose log lies here and whom the API knows (`_answer`)."""
        failures = 0
        while not self._node:
            try:
                self._node = await find_node(api)
                error = MEND
            except (ApiError, *UNREADABLE) as exc:
                error = str(exc)
            if not self._node:
                log.error("the name of this node is not known", extra=fields(mend=error))
                failures += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.backoff_s(failures)):
                        await self._node_found.wait()

    async def _answer_all(self, api: KubernetesApi) -> None:
        while True:
            question = self._questions.next()
            wait_s = question.due - time.monotonic() if question else None
            if question is None or (wait_s is not None and wait_s > 0):
                self._asked.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._asked.wait()
            else:
                await self._answer(api, question)
                await asyncio.sleep(self._pace.question_gap_s)

    async def _answer(self, api: KubernetesApi, question: Question) -> None:
        try:
            pod = await get_pod(api, question.namespace, question.pod)
        except (ApiError, *UNREADABLE) as exc:
            log.warning(
                "a pod's metadata cannot be asked for",
                extra=fields(namespace=question.namespace, pod=question.pod, error=str(exc)),
            )
            self._questions.postpone(question, time.monotonic())
            return
        if not self._questions.is_open(question.uid):
            return  # the watch was quicker, and knows better
        self._questions.close(question.uid)
        if pod is None or question.uid not in pod.path_uids:
            self._cache.set_absent(question.uid)
            return
        self._cache.put(pod)
        if not self._node:
            self._node = pod.node
            self._node_found.set()

    async def _save_all(self) -> None:
        while True:
            await asyncio.sleep(self._pace.snapshot_every_s)
            await self.save()

    async def save(self) -> None:
        """What is known, for the next start, or for whoever takes over."""
        revision = self._cache.revision
        if self._file is None or revision == self._saved_revision:
            return
        snapshot = PackedSnapshot(
            pods=[msgspec.Raw(packed) for packed in self._cache.packed_pods()],
            namespaces=dict(self._cache.namespaces),
            node_labels=self._cache.node_labels,
        )
        try:
            await asyncio.to_thread(self._file.save, snapshot)
        except OSError as exc:
            log.warning("the snapshot of pods cannot be written", extra=fields(error=str(exc)))
        else:
            self._saved_revision = revision
