"""What one watch has heard, decided without a connection."""

import json
from collections.abc import Collection

import msgspec
import pytest

from shipper.filters.kubernetes.api import ApiError
from shipper.filters.kubernetes.cache import MetadataCache
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.kubernetes.metadata import Describer
from shipper.filters.kubernetes.pod import UNREADABLE
from shipper.filters.kubernetes.sinks import NamespaceSink
from shipper.filters.kubernetes.watch import Progress


class Heard:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.news: list[str] = []

    def put(self, raw: msgspec.Raw) -> str | None:
        try:
            uid: str = json.loads(bytes(raw))["metadata"]["uid"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        self.news.append("put " + uid)
        return uid

    def delete(self, uid: str) -> None:
        self.news.append("delete " + uid)

    def complete(self, uids: Collection[str]) -> None:
        self.news.append("complete " + " ".join(sorted(uids)))


def event(kind: str, uid: str = "", version: int = 1, **annotations: str) -> bytes:
    metadata = {"uid": uid, "resourceVersion": str(version), "annotations": annotations}
    return json.dumps({"type": kind, "object": {"kind": "Pod", "metadata": metadata}}).encode() + b"\n"


END = {"k8s.io/initial-events-end": "true"}


def test_the_initial_events_end_with_a_bookmark() -> None:
    heard = Heard()
    progress = Progress(heard)
    progress.hear(event("ADDED", "a", 7))
    progress.hear(event("BOOKMARK", version=8))  # not the one that ends them
    progress.hear(event("ADDED", "b", 3))
    progress.hear(event("DELETED", "a", 9))
    assert not progress.is_complete
    progress.hear(event("BOOKMARK", version=9, **END))
    assert progress.is_complete
    assert heard.news == ["put a", "put b", "put a", "delete a", "complete b"]


def test_the_version_follows_events_and_bookmarks_once_complete() -> None:
    progress = Progress(Heard())
    versions = []
    for line in (event("ADDED", "a", 7), event("BOOKMARK", version=9, **END), event("MODIFIED", "a", 11)):
        progress.hear(line)
        versions.append(progress.version)
    progress.hear(event("BOOKMARK", version=20))
    assert [*versions, progress.version] == ["", "9", "11", "20"]


def test_a_list_is_complete_at_once() -> None:
    heard = Heard()
    progress = Progress(heard)
    items = [{"metadata": {"uid": uid, "resourceVersion": "3"}} for uid in "ab"]  # without kind, as in a PodList
    progress.take_list(json.dumps({"metadata": {"resourceVersion": "12"}, "items": items}).encode())
    assert heard.news == ["put a", "put b", "complete a b"]
    assert progress.version == "12"


def test_an_empty_list_may_have_null_for_items() -> None:
    heard = Heard()
    Progress(heard).take_list(b'{"metadata":{"resourceVersion":"12"},"items":null}')
    assert heard.news == ["complete "]


def test_expiry_within_an_answer_is_an_error_with_its_code() -> None:
    line = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n'
    with pytest.raises(ApiError, match="410: too old") as caught:
        Progress(Heard()).hear(line)
    assert caught.value.status == 410


def test_after_expiry_only_what_is_told_anew_counts() -> None:
    heard = Heard()
    progress = Progress(heard)
    progress.hear(event("ADDED", "a"))
    progress.begin_anew()
    progress.hear(event("ADDED", "b"))
    progress.hear(event("BOOKMARK", version=9, **END))
    assert heard.news[-1] == "complete b"


@pytest.mark.parametrize("line", [b'{"type":"ADDED","obj', b"<html>", b'{"type":"NEWS","object":{}}'])
def test_a_line_that_is_cut_is_an_error(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        Progress(Heard()).hear(line)


@pytest.mark.parametrize(
    "object_", [b'{"metadata":{"uid":"\xff"}}', b'{"metadata":{"x":' + b"[" * 100_000 + b"}", b"[]"]
)
def test_what_is_no_text_or_too_deep_is_an_error_that_the_watch_knows(object_: bytes) -> None:
    with pytest.raises(UNREADABLE):
        Progress(Heard()).hear(b'{"type":"ADDED","object":' + object_ + b"}\n")


def test_one_namespace_that_cannot_be_read_does_not_stop_the_news_of_others() -> None:
    cache = MetadataCache(Describer(KubernetesConfig()))
    progress = Progress(NamespaceSink(cache))
    for uid, labels in (("a", {"team": "\udcff"}), ("b", {"team": "shop"})):
        body = {"type": "ADDED", "object": {"metadata": {"uid": uid, "name": uid, "labels": labels}}}
        progress.hear(json.dumps(body, ensure_ascii=False).encode(errors="surrogateescape"))
    assert cache.namespaces == {"b": {"team": "shop"}}
