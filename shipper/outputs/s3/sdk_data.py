"""What the SDK reads of services, from JSON that comes with it: only what an archive needs of that.

All of it takes 12 MB and a tenth of a second: a hundred operations of S3, of which we call a dozen, and the addresses
of four hundred services in all regions.
"""

import gzip
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from botocore.loaders import JSONFileLoader, Loader

OPERATIONS = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "CreateSession",  # the SDK itself, for directory buckets
        "DeleteObject",
        "GetBucketLifecycleConfiguration",
        "GetObject",
        "HeadBucket",  # the SDK itself, where the bucket is in another region
        "HeadObject",
        "ListObjectsV2",
        "PutBucketLifecycleConfiguration",
        "PutObject",
        "UploadPart",
    }
)
_SERVICES = ("s3", "signin", "sso", "sso-oidc", "sts")  # all but the first are ways to credentials
_PREFIXES = frozenset({"s3", "signin", "portal.sso", "oidc", "sts"})  # the same by their addresses
_SHAPE = re.compile(rb'"shape"\s*:\s*"(\w+)"')


class LeanLoader(Loader):  # type: ignore[misc]  # no type information is published
    """In place of the SDK's own, which looks into the folder of each service to find the one that was asked for."""

    def __init__(self) -> None:
        super().__init__(file_loader=_Files())

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002  the same for all
        return list(_SERVICES)


class _Files(JSONFileLoader):  # type: ignore[misc]  # as above
    def load_file(self, file_path: str) -> Any:
        """Of a path without its ending. None where there is no such file."""
        plain, packed = Path(f"{file_path}.json"), Path(f"{file_path}.json.gz")
        if plain.is_file():
            data = plain.read_bytes()
        elif packed.is_file():
            data = gzip.decompress(packed.read_bytes())
        else:
            return None
        if plain.name == "endpoints.json":
            return _lean_endpoints(data)
        if plain.parts[-3::2] == ("s3", "service-2.json"):
            return _lean_model(data)
        return msgspec.json.decode(data)


def _lean_endpoints(data: bytes) -> dict[str, Any]:
    """Where a service is not told of, a partition's defaults hold."""
    found: dict[str, Any] = {**msgspec.json.decode(data, type=dict[str, msgspec.Raw])}
    partitions = msgspec.json.decode(found.pop("partitions"), type=list[dict[str, msgspec.Raw]])
    lean = [_decoded(p, services=_only(p.pop("services"), _PREFIXES)) for p in partitions]
    return _decoded(found, partitions=lean)


def _lean_model(data: bytes) -> dict[str, Any]:
    """Without texts for people."""
    found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    operations, shapes = found.pop("operations"), found.pop("shapes")
    all_shapes = msgspec.json.decode(shapes, type=dict[str, msgspec.Raw])
    wanted = _only(operations, OPERATIONS)
    used = _used(all_shapes, msgspec.json.encode(wanted))
    return _decoded(found, operations=_without_texts(wanted), shapes=_without_texts(_only(shapes, used)))


def _used(shapes: dict[str, msgspec.Raw], raw: bytes) -> set[str]:
    """Names of all shapes that are needed to say what `raw` says."""
    used, waiting = set[str](), [raw]
    while waiting:
        fresh = {name.decode() for name in _SHAPE.findall(waiting.pop())} - used
        used |= fresh
        waiting += [bytes(shapes[name]) for name in fresh]
    return used


def _only(raw: msgspec.Raw, names: Iterable[str]) -> dict[str, Any]:
    members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return {name: msgspec.json.decode(member) for name, member in members.items() if name in names}


def _decoded(raw: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {name: msgspec.json.decode(member) for name, member in raw.items()} | others


def _without_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_texts(each) for each in value]
    if isinstance(value, dict):
        return {k: _without_texts(v) for k, v in value.items() if not (k == "documentation" and isinstance(v, str))}
    return value
