"""Requests to the Kubernetes API: access, time-outs, errors. The only module that knows kubernetes_asyncio and aiohttp.

The library finds the server, its certificates and the credentials (in cluster, kubeconfig with all its plugins), and
sends the requests; answers stay bytes. What it would import besides is not needed here: see `_load_library`.
"""

import asyncio
import functools
import importlib
import importlib.util
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import aiohttp
import yaml

from shipper import __version__
from shipper.errors import ShipperError
from shipper.filters.kubernetes.config import KubernetesApiConfig
from shipper.filters.kubernetes.pace import Pace
from shipper.metrics import Metrics

READ_BYTES = 128 << 10  # of an answer wait to be looked at, or twice that; the library lets 4 MiB of a watch wait
LONGEST_LINE_BYTES = 4 << 20  # of a watch: more than etcd takes

Access = Literal["auto"] | KubernetesApiConfig


class ApiError(ShipperError):
    """No usable answer. `status` is None when there was none at all: refused, cut, timed out, no access configured."""

    def __init__(self, sentence: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_s = retry_after_s


class Lines:
    """The answer to a watch."""

    def __init__(self, response: Any, path: str) -> None:
        self._response = response
        self._path = path
        self._lines: deque[bytes] = deque()
        self._rest = b""  # the head of the next one

    async def next(self) -> bytes:
        """A line; `b""` at the end of the watch. Raises ApiError when the connection breaks, or is silent too long."""
        while not self._lines:
            with _translated(f"the watch of {self._path}"):
                data: bytes = await self._response.content.readany()
            if not data:
                rest, self._rest = self._rest, b""
                return rest
            *whole, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(line + b"\n" for line in whole)
            if len(self._rest) > LONGEST_LINE_BYTES:
                raise ApiError(f"the watch of {self._path}: a line of more than {LONGEST_LINE_BYTES} bytes")
        return self._lines.popleft()


class KubernetesApi:
    """One session, opened by the first request. After a 401 the credentials are read again for the next one."""

    def __init__(self, access: Access, metrics: Metrics, pace: Pace) -> None:
        self._access = access
        self._pace = pace
        self._requests = metrics.kubernetes_requests
        self._opening = asyncio.Lock()
        self._client: Any = None
        self._reload: Callable[[], Awaitable[None]] | None = None
        self._is_stale = False

    async def get(self, path: str, query: Mapping[str, str] | None = None, *, kind: str) -> bytes:
        """The body of a 2xx. Raises ApiError. `kind` is the metric's label."""
        async with self._request(path, query or {}, kind, read_timeout_s=self._pace.request_timeout_s) as response:
            with _translated(f"GET {path}"):
                body: bytes = await response.read()
            return body

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Lines]:
        """A 2xx has come when the block is entered. Raises ApiError."""
        query = {**query, "watch": "1"}
        async with self._request(path, query, "watch", read_timeout_s=self._pace.watch_silence_s) as response:
            try:
                yield Lines(response, path)
            finally:
                _cut(response)

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    @asynccontextmanager
    async def _request(
        self, path: str, query: Mapping[str, str], kind: str, *, read_timeout_s: float
    ) -> AsyncIterator[Any]:
        client = await self._open()
        timeout = aiohttp.ClientTimeout(sock_connect=self._pace.connect_timeout_s, sock_read=read_timeout_s)
        try:
            with _translated(f"GET {path}"):
                async with asyncio.timeout(self._pace.request_timeout_s):
                    response = await client.call_api(
                        path,
                        "GET",
                        query_params=list(query.items()),
                        header_params={"Accept": "application/json"},
                        auth_settings=["BearerToken"],
                        _preload_content=False,
                        _request_timeout=timeout,
                    )
        except ApiError:
            self._requests.labels(kind, "error").inc()
            raise
        self._requests.labels(kind, str(response.status)).inc()
        async with response:
            if response.status >= 300:
                self._is_stale = self._is_stale or response.status == 401
                with _translated(f"GET {path}"):
                    body = await response.read()
                raise _judge(path, response.status, response.headers, body)
            yield response

    async def _open(self) -> Any:
        library = _load_library()
        async with self._opening:
            try:
                if self._client is None:
                    configuration = library.Configuration()
                    # from Python 3.13 on, clusters whose CA lacks an optional extension would be refused; Go takes them
                    configuration.disable_strict_ssl_verification = True
                    self._reload = await _configure(self._access, configuration, library)
                    self._client = library.ApiClient(configuration)
                    self._client.user_agent = f"shipper/{__version__}"
                    self._client.rest_client.pool_manager._read_bufsize = READ_BYTES  # noqa: SLF001  no argument leads there
                elif self._is_stale and self._reload is not None:
                    await self._reload()
            except (library.config.ConfigException, *_CONFIGURATION_ERRORS) as exc:
                raise ApiError(f"there is no access to the Kubernetes API: {exc}") from exc
            self._is_stale = False
            return self._client


# What kubernetes_asyncio lets through while it reads configurations and runs their credential plugins.
_CONFIGURATION_ERRORS = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    yaml.YAMLError,
    aiohttp.ClientError,
)


def _cut(response: Any) -> None:
    """There is no end to wait for; a TLS connection that is closed politely may outlive the event loop."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as exc:
        raise ApiError(f"{what}: no answer in time") from exc
    except (aiohttp.ClientError, OSError, ValueError) as exc:  # ValueError: headers that aiohttp cannot read
        raise ApiError(f"{what}: {exc or type(exc).__name__}") from exc


def _judge(path: str, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, LookupError, TypeError):  # not from an API server, but from something before it
        message = body[:200].decode(errors="replace")
    delay = headers.get("Retry-After", "")
    retry_after_s = float(delay) if delay.isdecimal() else None
    return ApiError(f"GET {path}: {status}: {message}", status=status, retry_after_s=retry_after_s)


class _Library(NamedTuple):
    Configuration: Any
    ApiClient: Any
    config: Any


@functools.cache
def _load_library() -> _Library:
    """kubernetes_asyncio without its models: 14 modules in place of 859, 4 MiB and 0.03 s in place of 37 and 0.3.

    `import kubernetes_asyncio` and `.client` import everything below them. So both stand in as hollow packages while
    the parts that are needed are imported, and are gone afterwards: whoever imports the library then gets all of it.
    """
    spec = importlib.util.find_spec("kubernetes_asyncio")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("kubernetes_asyncio is not installed")
    folder = Path(spec.submodule_search_locations[0])
    before = _take_library_modules()
    try:
        _add_hollow_package("kubernetes_asyncio", folder)
        client = _add_hollow_package("kubernetes_asyncio.client", folder / "client")
        _add_hollow_package("kubernetes_asyncio.client.models", folder / "client" / "models")
        client.Configuration = importlib.import_module("kubernetes_asyncio.client.configuration").Configuration  # type: ignore[attr-defined]
        client.ApiClient = importlib.import_module("kubernetes_asyncio.client.api_client").ApiClient  # type: ignore[attr-defined]
        config = importlib.import_module("kubernetes_asyncio.config")
        return _Library(client.Configuration, client.ApiClient, config)
    finally:
        _take_library_modules()
        sys.modules.update(before)


def _add_hollow_package(name: str, folder: Path) -> ModuleType:
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    return package


def _take_library_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "kubernetes_asyncio"]
    return {name: sys.modules.pop(name) for name in names}


async def _configure(access: Access, configuration: Any, library: _Library) -> Callable[[], Awaitable[None]]:
    """Fills `configuration`; what it returns reads the credentials again. Raises one of _CONFIGURATION_ERRORS."""
    if access == "auto":
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return await _configure_in_cluster(configuration, library)
        paths = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        return await _configure_from_file(paths, None, configuration, library)
    if access.kubeconfig is not None:
        return await _configure_from_file(access.kubeconfig, access.context, configuration, library)
    return await _configure_by_address(access, configuration)


async def _configure_in_cluster(configuration: Any, library: _Library) -> Callable[[], Awaitable[None]]:
    async def load() -> None:  # between the calls, the library reads the token once a minute by itself
        library.config.load_incluster_config(client_configuration=configuration)

    await load()
    return load


async def _configure_from_file(
    paths: str, context: str | None, configuration: Any, library: _Library
) -> Callable[[], Awaitable[None]]:
    _require_kubeconfig(paths)
    loader = await library.config.load_kube_config(
        config_file=paths, context=context, client_configuration=configuration, persist_config=False
    )

    async def load() -> None:
        await loader.load_and_set(configuration)

    return load


def _require_kubeconfig(paths: str) -> None:
    if not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path):
        raise FileNotFoundError(f"this is no pod, and there is no kubeconfig {paths}")


async def _configure_by_address(access: KubernetesApiConfig, configuration: Any) -> Callable[[], Awaitable[None]]:
    configuration.host = (access.url or "").rstrip("/")
    configuration.ssl_ca_cert = access.ca_file

    def read_token(_: Any) -> None:
        if access.token_file is not None:
            token = Path(access.token_file).read_text(encoding="utf-8").strip()
            configuration.api_key["BearerToken"] = f"Bearer {token}"

    async def load() -> None:
        read_token(configuration)

    configuration.refresh_api_key_hook = read_token  # called for each request; they are few
    await load()
    return load
