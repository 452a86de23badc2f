"""Answers and their changes, decided without I/O."""

import pytest

from shipper.filters.base import Lookup, Metadata
from shipper.filters.kubernetes.cache import KEEP_DELETED_S, MetadataCache
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.kubernetes.metadata import Describer
from shipper.filters.kubernetes.pod import Pod, Run
from tests.filters.kubernetes.conftest import source_of


class Told:
    """A cache, and the uids that it has called its callbacks with."""

    def __init__(self) -> None:
        self.cache = MetadataCache(Describer(KubernetesConfig(namespace_labels=("*",), node_labels=("*",))))
        self.uids: list[str] = []
        self.cache.on_change(self.uids.append)

    def take(self) -> list[str]:
        taken, self.uids[:] = list(self.uids), []
        return taken


@pytest.fixture
def told() -> Told:
    return Told()


def pod_of(uid: str = "u1", name: str = "web-1", *, restarts: int = 0, **values: object) -> Pod:
    given = {"uid": uid, "namespace": "default", "name": name, "runs": {"app": Run(restarts, ended=False)}, **values}
    return Pod(**given)  # type: ignore[arg-type]


def test_an_unknown_pod_is_unknown_until_it_is_put(told: Told) -> None:
    assert told.cache.lookup(source_of("u1", "web-1")) is Lookup.UNKNOWN
    told.cache.put(pod_of())
    assert told.take() == ["u1"]
    assert isinstance(told.cache.lookup(source_of("u1", "web-1")), Metadata)


def test_the_answer_is_one_object_while_nothing_changes(told: Told) -> None:
    told.cache.put(pod_of())
    first = told.cache.lookup(source_of("u1", "web-1"))
    told.take()
    revision = told.cache.revision
    told.cache.put(pod_of())
    assert told.cache.lookup(source_of("u1", "web-1")) is first
    assert told.take() == []
    assert told.cache.revision == revision


def test_a_change_of_one_container_keeps_the_answer_of_another(told: Told) -> None:
    told.cache.put(pod_of(images={"app": "app:1", "proxy": "proxy:1"}))
    app = told.cache.lookup(source_of("u1", "web-1"))
    proxy = told.cache.lookup(source_of("u1", "web-1", container="proxy"))
    told.take()
    told.cache.put(pod_of(images={"app": "app:1", "proxy": "proxy:2"}))
    assert told.cache.lookup(source_of("u1", "web-1")) is app
    assert told.cache.lookup(source_of("u1", "web-1", container="proxy")) is not proxy
    assert told.take() == ["u1"]


def test_a_restart_ends_the_run_before(told: Told) -> None:
    told.cache.put(pod_of())
    assert told.cache.lookup(source_of("u1", "web-1")) == Metadata(document={}, terminated=False)
    told.cache.put(pod_of(restarts=1))
    assert told.cache.lookup(source_of("u1", "web-1")) == Metadata(document={}, terminated=True)
    assert told.cache.lookup(source_of("u1", "web-1", restart=1)) == Metadata(document={}, terminated=False)


def test_answers_about_long_gone_runs_are_dropped(told: Told) -> None:
    told.cache.put(pod_of())
    first = told.cache.lookup(source_of("u1", "web-1"))
    for restarts in range(1, 50):
        told.cache.put(pod_of(restarts=restarts))
        told.cache.lookup(source_of("u1", "web-1", restart=restarts))
    (entry,) = told.cache._entries.values()
    assert len(entry.answers) <= 4
    assert told.cache.lookup(source_of("u1", "web-1")) is not first


def test_a_deleted_pod_is_kept_for_a_while_and_as_long_as_it_is_retained(told: Told) -> None:
    told.cache.put(pod_of())
    answer = told.cache.lookup(source_of("u1", "web-1"))
    told.take()
    told.cache.delete("u1", 100.0)
    assert len(told.cache) == 0
    told.cache.retain((), 100.0 + KEEP_DELETED_S - 1)  # its file may not have been found yet
    assert told.cache.lookup(source_of("u1", "web-1")) is answer
    told.cache.retain(("u1",), 100.0 + KEEP_DELETED_S + 1)
    assert told.cache.lookup(source_of("u1", "web-1")) is answer
    assert told.take() == []
    told.cache.retain((), 100.0 + KEEP_DELETED_S + 1)
    assert told.cache.lookup(source_of("u1", "web-1")) is Lookup.UNKNOWN


def test_a_living_pod_is_never_forgotten(told: Told) -> None:
    told.cache.put(pod_of())
    told.cache.retain((), 1e9)
    assert isinstance(told.cache.lookup(source_of("u1", "web-1")), Metadata)


def test_what_a_list_does_not_name_is_deleted(told: Told) -> None:
    told.cache.put(pod_of("u1"))
    told.cache.put(pod_of("u2"))
    told.cache.complete({"u2"}, 0.0)
    assert len(told.cache) == 1
    told.cache.put(pod_of("u1"))  # the list was stale
    assert len(told.cache) == 2


def test_absence_is_told_and_taken_back(told: Told) -> None:
    told.cache.set_absent("u1")
    assert told.take() == ["u1"]
    assert told.cache.lookup(source_of("u1", "web-1")) is Lookup.ABSENT
    told.cache.put(pod_of())
    assert told.take() == ["u1"]
    assert isinstance(told.cache.lookup(source_of("u1", "web-1")), Metadata)


def test_absence_is_forgotten_with_the_file(told: Told) -> None:
    told.cache.set_absent("u1")
    told.cache.retain(("u1",), 0.0)
    assert told.cache.lookup(source_of("u1", "web-1")) is Lookup.ABSENT
    told.cache.retain((), 0.0)
    assert told.cache.lookup(source_of("u1", "web-1")) is Lookup.UNKNOWN


def test_a_file_that_is_no_containers_has_no_metadata(told: Told) -> None:
    source = source_of("u1", "web-1")
    assert told.cache.lookup(type(source)(input="files", path="/var/log/syslog")) is Lookup.ABSENT


def test_a_static_pod_is_found_by_its_hash_together_with_its_name(told: Told) -> None:
    told.cache.put(pod_of("u1", "etcd-node-1", manifest="hash1"))
    assert sorted(told.take()) == ["hash1", "u1"]
    assert isinstance(told.cache.lookup(source_of("hash1", "etcd-node-1")), Metadata)
    assert told.cache.lookup(source_of("hash1", "somebody-else")) is Lookup.UNKNOWN


def test_a_uid_counts_more_than_an_annotation_that_names_it(told: Told) -> None:
    told.cache.put(pod_of("victim", labels={"app": "victim"}))
    told.cache.put(pod_of("attacker", manifest="victim", labels={"app": "attacker"}))
    answer = told.cache.lookup(source_of("victim", "web-1"))
    assert isinstance(answer, Metadata)
    assert answer.labels == {"app": "victim"}


def test_a_mirror_pod_that_is_made_again_keeps_its_hash(told: Told) -> None:
    told.cache.put(pod_of("u1", "etcd", manifest="hash1"))
    told.cache.delete("u1", 0.0)
    told.cache.put(pod_of("u2", "etcd", manifest="hash1"))
    told.cache.retain((), KEEP_DELETED_S + 1)
    answer = told.cache.lookup(source_of("hash1", "etcd"))
    assert isinstance(answer, Metadata)
    assert answer.document["pod_id"] == "u2"


def test_labels_of_a_namespace_change_the_answers_in_it(told: Told) -> None:
    told.cache.put(pod_of("u1"))
    told.cache.put(pod_of("u2", namespace="shop"))
    told.cache.lookup(source_of("u1", "web-1"))
    told.cache.lookup(source_of("u2", "web-1", namespace="shop"))
    told.take()
    told.cache.set_namespace("shop", {"team": "a"})
    assert told.take() == ["u2"]
    told.cache.set_node_labels({"zone": "b"})
    assert sorted(told.take()) == ["u1", "u2"]


def test_labels_of_a_gone_namespace_stay_with_its_pods(told: Told) -> None:
    told.cache.put(pod_of("u1", namespace="shop"))
    told.cache.set_namespace("shop", {"team": "a"})
    told.cache.set_namespace("empty", {"team": "b"})
    told.cache.keep_namespaces(())
    assert told.cache.namespaces == {"shop": {"team": "a"}}


def test_pods_are_packed_whether_somebody_asks_for_them_or_not(told: Told) -> None:
    quiet, asked = pod_of("u1", "web-1"), pod_of("u2", "web-2")
    told.cache.put(quiet)
    told.cache.put(asked)
    told.cache.lookup(source_of("u2", "web-2"))
    assert [type(entry.packed) for entry in told.cache._entries.values()] == [bytes, bytes]
    assert list(told.cache.pods()) == [quiet, asked]
    revision = told.cache.revision
    told.cache.put(quiet)
    told.cache.put(asked)
    assert told.cache.revision == revision
    told.cache.put(pod_of("u1", "web-1", restarts=1))
    assert told.cache.revision == revision + 1
    told.cache.set_namespace("default", {"team": "shop"})
    assert [type(entry.packed) for entry in told.cache._entries.values()] == [bytes, bytes]
    assert next(told.cache.pods()) == pod_of("u1", "web-1", restarts=1)


def test_a_change_of_an_answer_that_nobody_holds_any_more_is_told(told: Told) -> None:
    told.cache.put(pod_of(labels={"app": "web"}))
    told.cache.lookup(source_of("u1", "web-1"))
    told.take()
    assert not told.cache._held
    told.cache.put(pod_of(labels={"app": "web"}, runs={"app": Run(0, ended=False), "new": Run(0, ended=False)}))
    assert told.take() == []
    told.cache.put(pod_of(labels={"app": "shop"}))
    assert told.take() == ["u1"]
    answer = told.cache.lookup(source_of("u1", "web-1"))
    assert isinstance(answer, Metadata)
    assert answer.labels == {"app": "shop"}
