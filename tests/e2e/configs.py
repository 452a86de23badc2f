"""Parts of configurations, as they stand in the YAML."""

from pathlib import Path
from typing import Any

from tests.fakes.archive import Archive

NODE = "node-1"
QUICK_RETRY = {"initial": "50ms", "max": "200ms"}

Part = dict[str, Any]


def tail(pods: Path, **values: Any) -> Part:
    return {"type": "tail", "name": "pods", "path": f"{pods}/*/*/*.log", **values}


def metadata(url: str, **values: Any) -> Part:
    """The kubernetes filter."""
    return {"type": "kubernetes", "node_name": NODE, "api": {"url": url}, **values}


def archive_annotated() -> Part:
    """Pods choose the archive by an annotation."""
    rule = {"when": {"annotation": "shipper.io/archive", "equals": "true"}, "add": "archive.{namespace}.{pod}"}
    return {"type": "tag", "rules": [rule]}


def to_elasticsearch(url: str, **values: Any) -> Part:
    return {
        "type": "elasticsearch",
        "name": "es",
        "hosts": [url],
        "index": "logs-{namespace}-default",
        "compression": "none",
        "retry": QUICK_RETRY,
        **values,
    }


def to_s3(archive: Archive, **values: Any) -> Part:
    """Small objects, soon uploaded."""
    return {
        "type": "s3",
        "name": "archive",
        "bucket": archive.bucket,
        "region": "us-east-1",
        "endpoint": archive.endpoint,
        "auth": {"access_key": archive.user, "secret_key": archive.password},
        "key": "logs/{namespace}/{node}-{id}.ndjson.gz",
        "object": {"max_bytes": "256KiB", "max_age": "1s"},
        "retry": QUICK_RETRY,
        **values,
    }


def to_files(folder: Path, **values: Any) -> Part:
    """A file a container."""
    return {
        "type": "file",
        "name": "files",
        "path": f"{folder}/{{namespace}}/{{pod}}/{{container}}.ndjson",
        "batch": {"max_age": "100ms"},
        **values,
    }
