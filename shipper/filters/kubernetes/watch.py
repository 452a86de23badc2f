"""One watch of one kind of object, for ever: continued when it was cut, begun anew when it has expired.

A watch from resourceVersion 0 tells of everything that there is (from the API server's cache, also while etcd hangs),
then of every change. The bookmark after the first part says that what was not told of does not exist; a server that
does not send it is asked for a list first.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import logging
import time
from random import uniform
from typing import Literal

import msgspec

from shipper.filters.kubernetes.api import ApiError, KubernetesApi, Lines
from shipper.filters.kubernetes.pace import Pace
from shipper.filters.kubernetes.pod import UNREADABLE
from shipper.filters.kubernetes.sinks import Sink
from shipper.log import fields

log = logging.getLogger(__name__)

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    uid: str = ""
    annotations: dict[str, str] | None = None


class _Object(msgspec.Struct, frozen=True):
    """Of any kind; `code` and `message` are a Status's."""

    metadata: _Meta = _Meta()
    code: int = 0
    message: str = ""


class _Event(msgspec.Struct, frozen=True):
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


class _List(msgspec.Struct, frozen=True):
    metadata: _Meta
    items: list[msgspec.Raw] | None = None


_event = msgspec.json.Decoder(_Event)
_object = msgspec.json.Decoder(_Object)
_list = msgspec.json.Decoder(_List)


class Progress:
    """What was heard, and so from where to go on. No I/O."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._initial: set[str] = set()  # uids told so far, of a watch that was begun anew
        self.version = ""  # "": to be begun anew

    @property
    def is_complete(self) -> bool:
        return bool(self.version)

    def begin_anew(self) -> None:
        self.version = ""
        self._initial = set()

    def hear(self, line: bytes) -> None:
        """One line of a watch. Raises ApiError for an error that it reports, one of UNREADABLE when it is cut."""
        event = _event.decode(line)
        if event.type == "ERROR":
            heard = _object.decode(event.object)
            raise ApiError(f"the watch was ended: {heard.code}: {heard.message}", status=heard.code)
        if event.type == "BOOKMARK":
            self._hear_bookmark(_object.decode(event.object).metadata)
            return
        uid = self._put(event.object)
        self._initial.add(uid)
        if event.type == "DELETED":
            self._sink.delete(uid)
            self._initial.discard(uid)
        if self.is_complete:
            self.version = _object.decode(event.object).metadata.resource_version
            self._initial.clear()

    def _put(self, raw: msgspec.Raw) -> str:
        """-> its uid, for which it need not be read again if it can be read at all."""
        uid = self._sink.put(raw)
        return _object.decode(raw).metadata.uid if uid is None else uid

    def take_list(self, body: bytes) -> None:
        """Raises one of UNREADABLE when it is cut."""
        listed = _list.decode(body)
        for item in listed.items or ():
            self._initial.add(self._put(item))
        self._complete(listed.metadata.resource_version)

    def _hear_bookmark(self, metadata: _Meta) -> None:
        """Before the initial events have ended, versions come in no order: there is nothing to continue from."""
        if self.is_complete:
            self.version = metadata.resource_version
        elif (metadata.annotations or {}).get(INITIAL_EVENTS_END) == "true":
            self._complete(metadata.resource_version)

    def _complete(self, version: str) -> None:
        self._sink.complete(self._initial)
        self._initial = set()
        self.version = version


class Watch:
    """`selector` is a field selector. `settled` is set once all is known, or once an attempt has failed."""

    def __init__(self, api: KubernetesApi, path: str, sink: Sink, pace: Pace, *, selector: str = "") -> None:
        self._api = api
        self.path = path
        self._pace = pace
        self._query = {"fieldSelector": selector} if selector else {}
        self._progress = Progress(sink)
        self._lists_first = False
        self.settled = asyncio.Event()
        self.heard_at = time.monotonic()  # when the server last said anything
        self.error = ""  # why it does not run; "" while it does

    def __repr__(self) -> str:
        return f"<Watch of {self.path} at {self.version or 'its beginning'}>"

    @property
    def is_complete(self) -> bool:
        return self._progress.is_complete

    @property
    def version(self) -> str:
        """The resourceVersion from which it would go on; empty while it has to begin anew."""
        return self._progress.version

    async def run(self) -> None:
        """Lasts until it is cancelled, whatever the API does."""
        failures = 0
        while True:
            heard_at, delay_s = self.heard_at, 0.0
            try:
                await self._follow()
            except ApiError as exc:
                delay_s = self._judge(exc)
            except UNREADABLE as exc:
                delay_s = self._judge(ApiError(f"the answer cannot be read: {exc}"))
            failures = 0 if self.heard_at > heard_at else failures + 1
            await asyncio.sleep(max(delay_s, self._pace.backoff_s(failures)))

    def _judge(self, error: ApiError) -> float:
        """How long to wait, in seconds, at least."""
        self.settled.set()
        if error.status == 410:
            log.info("the watch of the Kubernetes API has expired and begins anew", extra=fields(path=self.path))
            self._progress.begin_anew()
            return uniform(0.0, self._pace.relist_jitter_s)
        self.error = str(error)
        log.warning("the watch of the Kubernetes API failed", extra=fields(path=self.path, error=self.error))
        return error.retry_after_s or 0.0

    async def _follow(self) -> None:
        """Until the server ends the watch in good order. Raises ApiError, or one of UNREADABLE."""
        progress = self._progress
        if not progress.is_complete:
            progress.begin_anew()
            if self._lists_first:
                progress.take_list(await self._api.get(self.path, {**self._query, "resourceVersion": "0"}, kind="list"))
                self._hear()
        query = {
            **self._query,
            "resourceVersion": progress.version or "0",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(uniform(*self._pace.watch_lasts_s)))),
        }
        async with self._api.watch(self.path, query) as lines:
            if not progress.is_complete:
                try:
                    async with asyncio.timeout(self._pace.initial_lasts_s):
                        await self._read(lines, until_complete=True)
                except TimeoutError:
                    self._lists_first = True
                    return
            await self._read(lines)

    async def _read(self, lines: Lines, *, until_complete: bool = False) -> None:
        while not (until_complete and self.is_complete):
            line = await lines.next()
            if not line:
                return
            self._progress.hear(line)
            self._hear()

    def _hear(self) -> None:
        self.heard_at = time.monotonic()
        if self._progress.is_complete:
            self.error = ""
            self.settled.set()
