"""Imports the transport (elastic_transport), and aiohttp below it, as lean as it goes; names are taken from here.

The one would load `requests`, and all that comes with it, for a node class that nobody uses here: 4 MiB, 0.06 s. The
other would read the system's certificates, twice, for contexts of its own that nobody uses here either, since TLS is
always set up where it is configured: 2 MB, a tenth of a start.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Meanwhile a module that is not loaded yet cannot be imported."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # the import system's own way to say so
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _without_certificates() -> Iterator[None]:
    """Meanwhile OpenSSL finds none. Only while there is one thread, since the environment belongs to all of them."""
    if "aiohttp" in sys.modules or threading.active_count() > 1:
        yield
        return
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _without_certificates():
    import aiohttp
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.payload import Payload

with _absent("requests"):
    from elastic_transport import (
        AiohttpHttpNode,
        AsyncTransport,
        BaseNode,
        ConnectionTimeout,
        HttpHeaders,
        NodeConfig,
        NodePool,
        Serializer,
        TlsError,
        TransportError,
    )
    from elastic_transport._node import NodeApiResponse
    from elastic_transport.client_utils import (
        DEFAULT,
        DefaultType,
        basic_auth_to_header,
        url_to_node_config,
    )

__all__ = [
    "DEFAULT",
    "AbstractStreamWriter",
    "AiohttpHttpNode",
    "AsyncTransport",
    "BaseNode",
    "ConnectionTimeout",
    "DefaultType",
    "HttpHeaders",
    "NodeApiResponse",
    "NodeConfig",
    "NodePool",
    "Payload",
    "Serializer",
    "TlsError",
    "TransportError",
    "aiohttp",
    "basic_auth_to_header",
    "url_to_node_config",
]
