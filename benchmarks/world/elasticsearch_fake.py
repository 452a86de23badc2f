"""An Elasticsearch of our own, for the faults that a real one will not produce on demand.

Its answers are held to the real servers by tests/contract/test_elasticsearch.py. It parses every document,
unless `ids_only` is set: then it keeps up with a shipper at full speed.
"""

import asyncio
import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
from aiohttp import web
from isal import isal_zlib

from benchmarks.world.elasticsearch_faults import Fault, Faults
from benchmarks.world.elasticsearch_store import Store, error_item
from benchmarks.world.ports import free_port

GZIP_FORMAT = 31
PRODUCT = {"x-elastic-product": "Elasticsearch"}
_WHOLE: Mapping[str, tuple[int, str, str]] = {
    "busy": (429, "es_rejected_execution_exception", "rejected execution of coordinating operation"),
    "unavailable": (503, "no_shard_available_action_exception", "the node is shutting down"),
    "malformed": (400, "illegal_argument_exception", "Malformed action/metadata line [1], expected START_OBJECT"),
    "unauthorized": (401, "security_exception", "unable to authenticate user"),
    "forbidden": (403, "security_exception", "action [indices:data/write/bulk] is unauthorized"),
}
_ITEMS: Mapping[str, dict[str, Any]] = {
    "items_busy": error_item(429, "es_rejected_execution_exception", "rejected execution of primary operation"),
    "items_unavailable": error_item(503, "unavailable_shards_exception", "primary shard is not active"),
    "items_rejected": error_item(400, "document_parsing_exception", "failed to parse field [n] of type [long]"),
    "items_blocked": error_item(403, "cluster_block_exception", "index blocked by: [FORBIDDEN/8/index write (api)];"),
}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str  # with its query
    headers: Mapping[str, str]
    size: int  # of the body as sent
    unpacked_size: int
    items: int = 0
    fault: str = ""


class FakeElasticsearch:
    """One node on loopback.

    `credentials`: (user, password) that every request must bring; `max_content_length`: bytes as sent, above
    which a request gets 413; `dump`: a folder that gets every bulk body, unpacked; `numbers`: fields that every data
    stream maps as `long`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        data_streams: str = "logs-*-*",
        ids_only: bool = False,
        credentials: tuple[str, str] | None = None,
        max_content_length: int | None = None,
        dump: Path | None = None,
        numbers: frozenset[str] = frozenset(),
    ) -> None:
        self.store = Store(data_streams, ids_only=ids_only, numbers=numbers)
        self.faults = Faults(seed)
        self.requests: list[Request] = []
        self.statuses: Counter[int] = Counter()  # of items
        self.found = 0  # documents that were asked for by id, and are there
        self.credentials = credentials
        self.max_content_length = max_content_length
        self.questions_status = 200  # else what `_mget` and a question for settings are refused with
        self.templates: dict[str, dict[str, Any]] = {}
        self.component_templates: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.url = ""
        self._dump = dump
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """With a port, after `stop`, the same server is there again, with its documents."""
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=2**31, middlewares=[self._admit])
        app.router.add_routes(
            [
                web.get("/", self._root),
                web.post("/_bulk", self._bulk),
                web.post("/{index}/_bulk", self._bulk),
                web.route("*", "/_mget", self._mget),
                web.route("*", "/{index}/_mget", self._mget),
                web.route("*", "/{index}/_count", self._count),
                web.route("*", "/{index}/_search", self._search),
                web.post("/{index}/_rollover", self._rollover),
                web.post("/{index}/_refresh", self._refresh),
                web.put("/{index}/_settings", self._settings),
                web.get("/{index}/_settings/index.creation_date", self._creation_times),
                web.put("/{index}", self._create),
                web.get("/_data_stream/{name}", self._data_stream),
                web.put("/_data_stream/{name}", self._put_data_stream),
                web.get("/_alias/{name}", self._alias),
                web.post("/_security/user/_has_privileges", self._privileges),
                web.get("/_index_template/{name}", self._get_template),
                web.put("/_index_template/{name}", self._put_template),
                web.get("/_component_template/{name}", self._get_component_template),
                web.put("/_component_template/{name}", self._put_component_template),
                web.get("/_ilm/policy/{name}", self._get_policy),
                web.put("/_ilm/policy/{name}", self._put_policy),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port or free_port())
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def ids(self) -> Counter[str]:
        """How often each id was stored, over all indices: more than 1 is a duplicate."""
        return Counter(write.id for write in self.store.writes)

    def documents(self, index: str = "*") -> list[dict[str, Any]]:
        """In the order of their arrival."""
        names = {name for name, _ in self.store.by_name(index)}
        return [orjson.loads(write.source) for write in self.store.writes if write.backing in names]

    def roll_over(self, stream: str) -> None:
        self.store.roll_over(stream)

    @web.middleware
    async def _admit(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.max_content_length is not None and (request.content_length or 0) > self.max_content_length:
            return web.Response(status=413, headers={"connection": "close"})
        if self.credentials is not None:
            expected = "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
            if request.headers.get("authorization") != expected:
                return _failure("unauthorized")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _bulk(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = isal_zlib.decompress(raw, GZIP_FORMAT) if request.headers.get("content-encoding") == "gzip" else raw
        lines = body.split(b"\n")
        items = len(lines) // 2
        fault = self.faults.next()
        self.requests.append(
            Request(
                request.method,
                str(request.rel_url),
                dict(request.headers),
                len(raw),
                len(body),
                items,
                fault.kind if fault else "",
            )
        )
        if self._dump is not None:
            await asyncio.to_thread((self._dump / f"bulk-{len(self.requests):06d}.ndjson").write_bytes, body)
        if lines.pop():
            return _error(400, "illegal_argument_exception", "The bulk request must be terminated by a newline [\\n]")
        if fault is not None and (answer := await self._fail_whole(request, fault)):
            return answer
        try:
            outcomes = self._apply(lines, request.match_info.get("index", ""), fault)
        except ValueError as exc:
            return _error(400, "illegal_argument_exception", str(exc))
        self.statuses.update(outcome["status"] for outcome in outcomes)
        return await self._answer(request, outcomes, fault)

    async def _fail_whole(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        """The answer of faults that leave nothing applied."""
        if fault.kind in _WHOLE:
            return _failure(fault.kind, fault.retry_after)
        if fault.kind == "too_large":
            return web.Response(status=413)
        if fault.kind == "proxy_page":
            page = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
            return web.Response(status=502, text=page, content_type="text/html")
        if fault.kind == "hang":
            await self._stopping.wait()
        return _reset(request) if fault.kind in ("reset", "hang") else None

    def _apply(self, lines: list[bytes], index: str, fault: Fault | None) -> list[dict[str, Any]]:
        kind = fault.kind if fault else ""
        struck = self.faults.struck(len(lines) // 2, fault.share) if fault else frozenset()
        if kind == "roll_over":
            self._roll_over_all()
        outcomes = []
        for number, (action, source) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
            if kind in _ITEMS and number in struck:
                outcomes.append(_ITEMS[kind])
            else:
                to_failure_store = kind == "failure_store" and number in struck
                outcomes.append(self.store.apply(action, source, index, to_failure_store=to_failure_store))
        if kind == "applied_then_rolled_over":
            self._roll_over_all()
        return outcomes

    def _roll_over_all(self) -> None:
        for name in [stream.name for stream in self.store.streams.values() if stream.is_data_stream]:
            self.store.roll_over(name)

    async def _answer(
        self, request: web.Request, outcomes: list[dict[str, Any]], fault: Fault | None
    ) -> web.StreamResponse:
        """The answer of what was applied, and of the faults that come after."""
        kind = fault.kind if fault else ""
        if kind == "fewer_items":
            outcomes = outcomes[:-1]
        content = orjson.dumps(
            {
                "errors": any("error" in outcome for outcome in outcomes),
                "items": [{"create": outcome} for outcome in outcomes],
            }
        )
        if fault is not None and kind == "slow":
            await asyncio.sleep(fault.delay_s)
        if kind == "applied_then_hang":
            await self._stopping.wait()
        if kind in ("applied_then_reset", "applied_then_hang", "applied_then_rolled_over"):
            return _reset(request)
        if kind == "cut_valid_answer":
            content = content[: len(content) // 2]
        if kind == "cut_answer":
            return await _send_half(request, content)
        return web.Response(body=content, content_type="application/json", headers=PRODUCT)

    async def _root(self, _: web.Request) -> web.Response:
        return _json({"version": {"number": "9.5.3", "build_flavor": "default"}, "tagline": "You Know, for Search"})

    async def _creation_times(self, request: web.Request) -> web.Response:
        if self.questions_status != 200:
            return _error(self.questions_status, "refused_exception", "the fake was told to refuse questions")
        times = self.store.creation_times(request.match_info["index"])
        if not times:
            return _error(404, "index_not_found_exception", f"no such index [{request.match_info['index']}]")
        settings = {name: {"index": {"creation_date": str(int(at * 1000))}} for name, at in times.items()}
        return _json({name: {"settings": each} for name, each in settings.items()})

    async def _mget(self, request: web.Request) -> web.Response:
        if self.questions_status != 200:
            return _error(self.questions_status, "refused_exception", "the fake was told to refuse questions")
        asked = orjson.loads(await request.read())
        index = request.match_info.get("index", "")
        wanted = [(entry.get("_index", index), entry["_id"]) for entry in asked.get("docs", [])]
        wanted += [(index, key) for key in asked.get("ids", [])]
        docs = [
            {"_index": name, "_id": key, "found": any(key in documents for _, documents in self.store.by_name(name))}
            for name, key in wanted
        ]
        self.found += sum(doc["found"] for doc in docs)
        return _json({"docs": docs})

    async def _count(self, request: web.Request) -> web.Response:
        return _json({"count": sum(len(docs) for _, docs in self.store.by_name(request.match_info["index"]))})

    async def _search(self, request: web.Request) -> web.Response:
        """Every document, whatever the query, up to `size`."""
        hits = [
            {"_index": name, "_id": key, "_source": orjson.loads(source or b"{}")}
            for name, documents in self.store.by_name(request.match_info["index"])
            for key, source in documents.items()
        ]
        size = int(request.query.get("size", 10))
        return _json({"hits": {"total": {"value": len(hits), "relation": "eq"}, "hits": hits[:size]}})

    async def _refresh(self, _: web.Request) -> web.Response:
        return _json({"_shards": {"failed": 0}})

    async def _create(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read() or b"{}")
        mappings = asked.get("mappings", {}).get("properties", {})
        numbers = frozenset(name for name, mapping in mappings.items() if mapping.get("type") == "long")
        aliases = [self.store.alias(name) for name in asked.get("aliases", {})]
        for stream in aliases or [self.store.stream(request.match_info["index"])]:
            stream.numbers = numbers
        return _json({"acknowledged": True})

    async def _settings(self, request: web.Request) -> web.Response:
        settings = orjson.loads(await request.read())
        self.store.stream(request.match_info["index"]).is_write_blocked = settings.get("index.blocks.write", False)
        return _json({"acknowledged": True})

    async def _rollover(self, request: web.Request) -> web.Response:
        self.store.roll_over(request.match_info["index"])
        return _json({"acknowledged": True, "rolled_over": True})

    async def _data_stream(self, request: web.Request) -> web.Response:
        stream = self.store.streams.get(request.match_info["name"])
        if stream is None or not stream.is_data_stream:
            return _error(404, "index_not_found_exception", f"no such index [{request.match_info['name']}]")
        indices = [{"index_name": stream.backing_name(number)} for number in range(len(stream.backing))]
        return _json({"data_streams": [{"name": stream.name, "indices": indices, "generation": len(indices)}]})

    async def _put_data_stream(self, request: web.Request) -> web.Response:
        self.store.stream(request.match_info["name"])
        return _json({"acknowledged": True})

    async def _alias(self, request: web.Request) -> web.Response:
        stream = self.store.streams.get(request.match_info["name"])
        if stream is None or not stream.is_alias:
            return _json({"error": f"alias [{request.match_info['name']}] missing", "status": 404}, 404)
        indices = [stream.backing_name(number) for number in range(len(stream.backing))]
        return _json({name: {"aliases": {stream.name: {"is_write_index": name == indices[-1]}}} for name in indices})

    async def _privileges(self, _: web.Request) -> web.Response:
        return _json({"username": "fake", "has_all_requested": True, "cluster": {}, "index": {}, "application": {}})

    async def _get_template(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.templates:
            return _error(404, "resource_not_found_exception", f"index template matching [{name}] not found")
        return _json({"index_templates": [{"name": name, "index_template": self.templates[name]}]})

    async def _put_template(self, request: web.Request) -> web.Response:
        self.templates[request.match_info["name"]] = orjson.loads(await request.read())
        return _json({"acknowledged": True})

    async def _get_component_template(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.component_templates:
            return _error(404, "resource_not_found_exception", f"component template matching [{name}] not found")
        return _json({"component_templates": [{"name": name, "component_template": self.component_templates[name]}]})

    async def _put_component_template(self, request: web.Request) -> web.Response:
        self.component_templates[request.match_info["name"]] = orjson.loads(await request.read())
        return _json({"acknowledged": True})

    async def _get_policy(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.policies:
            return _error(404, "resource_not_found_exception", f"Lifecycle policy not found: {name}")
        return _json({name: {"version": 1, **self.policies[name]}})

    async def _put_policy(self, request: web.Request) -> web.Response:
        self.policies[request.match_info["name"]] = orjson.loads(await request.read())
        return _json({"acknowledged": True})


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(content),
        status=status,
        content_type="application/json",
        headers={**PRODUCT, **(headers or {})},
    )


def _error(status: int, kind: str, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    cause = {"type": kind, "reason": reason}
    return _json({"error": {"root_cause": [cause], **cause}, "status": status}, status, headers)


def _failure(kind: str, retry_after: str | None = None) -> web.Response:
    status, name, reason = _WHOLE[kind]
    return _error(status, name, reason, {"retry-after": retry_after} if retry_after is not None else None)


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _send_half(request: web.Request, content: bytes) -> web.StreamResponse:
    answer = web.StreamResponse(
        headers={"content-type": "application/json", "content-length": str(len(content)), **PRODUCT}
    )
    await answer.prepare(request)
    await answer.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.close()
    return answer
