"""Documents as a correct, slow shipper would make them: an independent reader of CRI files."""

import gzip
import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def slow_documents(pods: Path) -> Iterator[bytes]:
    """One document a record, of all containers below `pods`, each container's files from the oldest on.

    A file that is there in two forms is read once, as the plain one.
    """
    for container in sorted(pods.glob("*/*")):
        namespace, pod, uid = container.parent.name.split("_")
        identity = {"namespace_name": namespace, "pod_name": pod, "pod_id": uid, "container_name": container.name}
        names = {path.name for path in container.iterdir()}
        files = [
            path for path in container.iterdir() if path.suffix != ".tmp" and path.name.removesuffix(".gz") == path.name
        ]
        files += [path for path in container.glob("*.gz") if path.name.removesuffix(".gz") not in names]
        yield from _container_documents(sorted(files, key=_age), identity)


def _container_documents(files: list[Path], identity: dict[str, str]) -> Iterator[bytes]:
    """A record that its process did not end, ends with the last file of that process."""
    for _, run in itertools.groupby(files, key=lambda path: _age(path)[0]):
        open_parts: dict[str, tuple[str, bytes]] = {}
        for file in run:
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            for line in data.splitlines():
                time, stream, tag, content = line.split(b" ", 3)
                first, parts = open_parts.pop(stream.decode(), (time.decode(), b""))
                if tag == b"P":
                    open_parts[stream.decode()] = first, parts + content
                else:
                    yield _document(first, stream.decode(), identity, parts + content)
        for stream_name, (time_text, parts) in open_parts.items():
            yield _document(time_text, stream_name, identity, parts)


def _document(time: str, stream: str, identity: dict[str, str], content: bytes) -> bytes:
    head = {"@timestamp": time, "stream": stream, "kubernetes": identity}
    message = {"message": content.decode()}
    with suppress(json.JSONDecodeError):  # also half an object is text
        message = json.loads(content) if content.startswith(b"{") else message
    return json.dumps({**head, **message}, separators=(",", ":"), ensure_ascii=False).encode()


def _age(path: Path) -> tuple[int, bool, str]:
    """Sorts restarts, and within one the rotated files before the live one."""
    restart, _, suffix = path.name.partition(".log")
    return int(restart), not suffix, suffix
