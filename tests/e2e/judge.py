"""Holds what arrived to what was written, with the independent checker of benchmarks.world."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.world.account import Account
from benchmarks.world.check import Checker, Verdict, ndjson_documents, split_documents
from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from tests.fakes.archive import Archive, unpack

Documents = Iterable[tuple[bytes | None, bytes]]


def judge(account: Account, documents: Documents, *, by_time: bool = False, labels: bool = True) -> Verdict:
    """Each record must be there once: what has an id is counted by it."""
    checker = Checker(account, by_time=by_time, labels=labels)
    checker.feed(documents)
    return checker.verdict()


def stored(elasticsearch: FakeElasticsearch) -> Documents:
    """All documents that an index holds; an id that is there twice comes twice."""
    return [(write.id.encode(), write.source) for write in elasticsearch.store.writes]


def archived(archive: Archive) -> Documents:
    return split_documents(b"".join(archive.documents()))


def manifest_agrees(archive: Archive, accounts: Iterable[Mapping[str, Any]]) -> None:
    """Each object is listed with what it is, and the lists add up to what the ledger says of each container."""
    lines = [
        line for key in archive.all_keys() if key.startswith("manifest/") for line in archive.read(key).splitlines()
    ]
    listed = {entry["key"]: entry for entry in map(orjson.loads, lines)}
    assert listed.keys() == set(archive.keys())
    for key, entry in listed.items():
        content = archive.read(key)
        plain = unpack(key, content)
        assert (entry["object_bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert (entry["bytes"], entry["records"]) == (len(plain), plain.count(b"\n"))
        assert entry["records"] == sum(container["records"] for container in entry["containers"])
    archived, delivered = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for container in (container for entry in listed.values() for container in entry["containers"]):
        archived[container["namespace"], container["pod"], container["container"]] += container["bytes"]
        assert sum(end - begin for begin, end in container["ranges"]) >= container["bytes"]
    for account in (account for account in accounts if account["output"] == "archive"):
        delivered[account["namespace"], account["pod"], account["container"]] += account["delivered"]
    assert archived == +delivered


def filed(folder: Path) -> Documents:
    for path in sorted(folder.rglob("*.ndjson")):
        yield from ndjson_documents(path)


def filed_parts(folder: Path) -> Documents:
    """Of files that were rotated: `x.ndjson.2` holds what came before `x.ndjson.1`."""
    for path in sorted(folder.rglob("*.ndjson*"), key=lambda path: -int("0" + path.suffix.strip(".ndjso"))):
        yield from split_documents(path.read_bytes())


def ids(documents: Documents) -> list[bytes]:
    found = [identity for identity, _ in documents]
    assert None not in found
    return [identity for identity in found if identity is not None]
