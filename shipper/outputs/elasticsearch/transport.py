"""Imports the transport (elastic_transport) as lean as it goes; its names are taken from here.

It would load `requests`, and all that comes with it, for a node class that nobody uses here: 4 MiB, 0.06 s.
"""

import sys
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
    "AiohttpHttpNode",
    "AsyncTransport",
    "BaseNode",
    "ConnectionTimeout",
    "DefaultType",
    "HttpHeaders",
    "NodeApiResponse",
    "NodeConfig",
    "NodePool",
    "Serializer",
    "TlsError",
    "TransportError",
    "basic_auth_to_header",
    "url_to_node_config",
]
