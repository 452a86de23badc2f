"""A Kubernetes API server in miniature: list, watch and GET of pods, namespaces and nodes, as kube-apiserver 1.36 does.

Its switches (`Trouble`) make the trouble that a real one makes.

    api = FakeKubernetesApi()
    await api.start()
    api.add_pod("cart-7d9f-x2x", namespace="shop", owner=("ReplicaSet", "cart-7d9f"))
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from aiohttp import web

from benchmarks.world.kubernetes_objects import Labels, Object, make_metadata, make_pod, make_status, make_uid
from benchmarks.world.ports import free_port

KINDS = {"pods": "Pod", "namespaces": "Namespace", "nodes": "Node"}
HISTORY = 10_000  # changes that a watch may still ask for


@dataclass(slots=True)
class Trouble:
    """What goes wrong at the moment; all of it can be changed while the server runs."""

    tokens: set[str] | None = None  # those that are valid; None: no token is asked for
    forbidden: set[str] = field(default_factory=set)  # resources that get 403
    status: int = 0  # an answer to everything, such as 503
    retry_after_s: int = 0  # goes with it
    hangs: bool = False  # requests are taken, and never answered
    list_delay_s: float = 0.0
    sends_bookmarks: bool = True
    sends_initial_events_end: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    verb: str  # list, watch, get
    resource: str
    name: str
    query: Mapping[str, str]
    token: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, encoded without kind and version: as the items of a list are."""

    body: bytes
    fields: Mapping[str, str]  # by which it can be selected


@dataclass(frozen=True, slots=True)
class Change:
    version: int
    resource: str
    before: Stored | None
    after: Stored | None  # None: deleted
    last: Stored  # as it is told of: a deleted one has a version too


class FakeKubernetesApi:
    """Plain HTTP on loopback. Every change of an object takes the next resourceVersion."""

    def __init__(self, *, bookmark_every_s: float = 60.0) -> None:
        self.trouble = Trouble()
        self.requests: list[Request] = []
        self.port = free_port()
        self._bookmark_every_s = bookmark_every_s
        self._objects: dict[str, dict[tuple[str, str], Stored]] = {resource: {} for resource in KINDS}
        self._version = 1000
        self._oldest = 1000  # a watch from before has expired
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._wakers: set[asyncio.Event] = set()  # one a watch
        self._transports: set[asyncio.Transport] = set()  # of watches
        self._runner: web.AppRunner | None = None

    def __repr__(self) -> str:
        return f"<FakeKubernetesApi {self.url} at {self._version}>"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def version(self) -> int:
        """The resourceVersion of the last change."""
        return self._version

    @property
    def is_running(self) -> bool:
        return self._runner is not None

    @property
    def watches(self) -> int:
        """How many are open."""
        return len(self._wakers)

    async def start(self) -> None:
        """After `stop`, on the same port."""
        app = web.Application()
        app.router.add_get("/api/v1/{resource}", self._list_or_watch)
        app.router.add_get("/api/v1/{resource}/{name}", self._get)
        app.router.add_get("/api/v1/namespaces/{namespace}/{resource}/{name}", self._get)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """As SIGKILL does it: connections are cut. What was stored stays, but all versions expire."""
        self.cut()
        self.expire()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def cut(self) -> None:
        """Cuts the connections of all watches."""
        for transport in self._transports:
            transport.abort()

    def expire(self) -> None:
        """Every version given out so far gets 410 from now on, though nothing has changed."""
        self._version += 1
        self._oldest = self._version

    # -- objects ---------------------------------------------------------------------------------------------

    def add_pod(self, name: str, *, namespace: str = "default", **values: Any) -> str:
        """`values` are those of `make_pod`. Returns its uid."""
        pod = make_pod(name, namespace=namespace, **values)
        self._put("pods", namespace, name, pod)
        uid: str = pod["metadata"]["uid"]
        return uid

    def modify_pod(self, name: str, change: Callable[[Object], object], *, namespace: str = "default") -> None:
        """`change` gets the pod as a dict, and alters it."""
        pod: Object = json.loads(self._objects["pods"][namespace, name].body)
        change(pod)
        self._put("pods", namespace, name, pod)

    def set_container(
        self, name: str, container: str, *, namespace: str = "default", restarts: int = 0, state: str = "running"
    ) -> None:
        """`state` is running, waiting or terminated."""

        def change(pod: Object) -> None:
            statuses = pod["status"]["containerStatuses"]
            index = next(i for i, status in enumerate(statuses) if status["name"] == container)
            last_state = "terminated" if restarts else ""
            statuses[index] = make_status(container, restarts=restarts, state=state, last_state=last_state)

        self.modify_pod(name, change, namespace=namespace)

    def delete_pod(self, name: str, *, namespace: str = "default") -> None:
        self._delete("pods", namespace, name)

    def put_namespace(self, name: str, labels: Labels | None = None) -> None:
        labels = {"kubernetes.io/metadata.name": name, **(labels or {})}
        self._put("namespaces", "", name, {"metadata": make_metadata(name, "", make_uid("namespace", name), labels)})

    def delete_namespace(self, name: str) -> None:
        self._delete("namespaces", "", name)

    def put_node(self, name: str, labels: Labels | None = None) -> None:
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", **(labels or {})}
        self._put("nodes", "", name, {"metadata": make_metadata(name, "", make_uid("node", name), labels)})

    def _put(self, resource: str, namespace: str, name: str, value: Object) -> None:
        stored = self._encode(name, value)
        before = self._objects[resource].get((namespace, name))
        self._objects[resource][namespace, name] = stored
        self._publish(Change(self._version, resource, before, stored, stored))

    def _delete(self, resource: str, namespace: str, name: str) -> None:
        before = self._objects[resource].pop((namespace, name))
        last = self._encode(name, json.loads(before.body))
        self._publish(Change(self._version, resource, before, None, last))

    def _encode(self, name: str, value: Object) -> Stored:
        self._version += 1
        value["metadata"]["resourceVersion"] = str(self._version)
        fields = {"metadata.name": name, "spec.nodeName": value.get("spec", {}).get("nodeName", "")}
        return Stored(json.dumps(value, separators=(",", ":")).encode(), fields)

    def _publish(self, change: Change) -> None:
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].version
        self._history.append(change)
        for waker in self._wakers:
            waker.set()

    # -- requests --------------------------------------------------------------------------------------------

    async def _judge(self, request: web.Request, verb: str) -> web.Response | None:
        """The answer when something is in the way."""
        trouble = self.trouble
        resource = request.match_info["resource"]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.requests.append(Request(verb, resource, request.match_info.get("name", ""), dict(request.query), token))
        while trouble.hangs:
            await asyncio.sleep(0.01)
        if trouble.status:
            return _refuse(trouble.status, "trouble", retry_after_s=trouble.retry_after_s)
        if trouble.tokens is not None and token and token not in trouble.tokens:
            return _refuse(401, "Unauthorized")
        user = "system:serviceaccount:logging:shipper" if token or trouble.tokens is None else "system:anonymous"
        if user == "system:anonymous" or resource in trouble.forbidden:
            return _refuse(403, f'{resource} is forbidden: User "{user}" cannot {verb} resource "{resource}"')
        if resource not in KINDS:
            return _refuse(404, "the server could not find the requested resource")
        return None

    async def _get(self, request: web.Request) -> web.Response:
        if refusal := await self._judge(request, "get"):
            return refusal
        resource, name = request.match_info["resource"], request.match_info["name"]
        stored = self._objects[resource].get((request.match_info.get("namespace", ""), name))
        if stored is None:
            return _refuse(404, f'{resource} "{name}" not found')
        return web.Response(body=_with_kind(resource, stored.body), content_type="application/json")

    async def _list_or_watch(self, request: web.Request) -> web.StreamResponse:
        is_watch = request.query.get("watch") in ("1", "true")
        if refusal := await self._judge(request, "watch" if is_watch else "list"):
            return refusal
        if is_watch:
            return await self._watch(request)
        await asyncio.sleep(self.trouble.list_delay_s)
        resource = request.match_info["resource"]
        items = b",".join(stored.body for stored in self._select(resource, request.query.get("fieldSelector", "")))
        head = f'{{"kind":"{KINDS[resource]}List","apiVersion":"v1","metadata":{{"resourceVersion":"{self._version}"}},'
        response = web.Response(body=head.encode() + b'"items":[' + items + b"]}", content_type="application/json")
        response.enable_compression(web.ContentCoding.gzip)
        return response

    def _select(self, resource: str, selector: str) -> Iterable[Stored]:
        return [stored for stored in self._objects[resource].values() if _fits(stored, selector)]

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        waker = asyncio.Event()
        transport = request.transport
        assert transport is not None
        self._wakers.add(waker)
        self._transports.add(transport)
        try:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(float(request.query.get("timeoutSeconds", "1800"))):
                    await self._tell(request, response, waker)
        finally:
            self._wakers.discard(waker)
            self._transports.discard(transport)
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse, waker: asyncio.Event) -> None:
        resource, selector = request.match_info["resource"], request.query.get("fieldSelector", "")
        wants_bookmarks = request.query.get("allowWatchBookmarks") == "true" and self.trouble.sends_bookmarks
        told = int(request.query.get("resourceVersion") or "0")
        if told == 0:
            told = self._version
            for stored in self._select(resource, selector):
                await response.write(_event("ADDED", _with_kind(resource, stored.body)))
            if wants_bookmarks and self.trouble.sends_initial_events_end:
                await response.write(_bookmark(resource, told, {"k8s.io/initial-events-end": "true"}))
        elif told < self._oldest:
            await response.write(_event("ERROR", _status(410, "too old resource version", "Expired")))
            return
        while True:
            waker.clear()
            news, told = self._changes_since(told), max(told, self._version)
            for change in news:
                if change.resource == resource and (line := _describe(change, selector)):
                    await response.write(line)
            try:
                async with asyncio.timeout(self._bookmark_every_s):
                    await waker.wait()
            except TimeoutError:
                if wants_bookmarks:
                    await response.write(_bookmark(resource, told, {}))

    def _changes_since(self, version: int) -> list[Change]:
        return list(takewhile(lambda change: change.version > version, reversed(self._history)))[::-1]


def _fits(stored: Stored | None, selector: str) -> bool:
    name, _, value = selector.partition("=")
    return stored is not None and (not selector or stored.fields.get(name) == value)


def _describe(change: Change, selector: str) -> bytes | None:
    """A selector that begins or ceases to fit makes ADDED or DELETED of a change."""
    had, has = _fits(change.before, selector), _fits(change.after, selector)
    if not had and not has:
        return None
    kind = "DELETED" if not has else "MODIFIED" if had else "ADDED"
    return _event(kind, _with_kind(change.resource, change.last.body))


def _with_kind(resource: str, body: bytes) -> bytes:
    return f'{{"kind":"{KINDS[resource]}","apiVersion":"v1",'.encode() + body[1:]


def _event(kind: str, body: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), body)


def _bookmark(resource: str, version: int, annotations: Labels) -> bytes:
    """With `containers: null`, as a real one has it."""
    value: Object = {
        "kind": KINDS[resource],
        "apiVersion": "v1",
        "metadata": {"resourceVersion": str(version), "creationTimestamp": None, "annotations": dict(annotations)},
        "spec": {"containers": None},
        "status": {},
    }
    return _event("BOOKMARK", json.dumps(value).encode())


def _status(code: int, message: str, reason: str = "") -> bytes:
    value = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return json.dumps({**value, "reason": reason, "code": code}).encode()


def _refuse(code: int, message: str, *, retry_after_s: int = 0) -> web.Response:
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    return web.Response(status=code, body=_status(code, message), content_type="application/json", headers=headers)
