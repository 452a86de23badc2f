"""Archived documents, as the daemon writes them."""

import gzip
from collections.abc import Iterable

import orjson

TIME = "2026-11-21T10:00:00Z"


def document(
    number: int,
    *,
    namespace: str = "shop",
    time: str = TIME,
    has_id: bool = True,
    host: str | None = "node-1",
    **more: object,
) -> bytes:
    """One line, of a container."""
    members = {
        **({"_id": f"1f-ab-{number * 100:x}-{number * 100 + 100:x}"} if has_id else {}),
        "@timestamp": time,
        "stream": "stdout",
        "kubernetes": {
            "namespace_name": namespace,
            "pod_name": "cart-1",
            "pod_id": "u",
            "container_name": "app",
            **({"host": host} if host else {}),
            **({"labels": {"app": "cart"}} if host else {}),
        },
        **(more or {"message": f"line {number}"}),
    }
    return orjson.dumps(members) + b"\n"


def documents(*numbers: int, namespace: str = "shop", time: str = TIME) -> list[bytes]:
    return [document(number, namespace=namespace, time=time) for number in numbers]


def packed(lines: Iterable[bytes]) -> bytes:
    return gzip.compress(b"".join(lines))
