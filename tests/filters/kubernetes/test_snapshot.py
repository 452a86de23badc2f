"""The cache on disk."""

from pathlib import Path

import msgspec
import pytest

from shipper.filters.kubernetes.pod import Owner, Pod, Run, pack_pod
from shipper.filters.kubernetes.snapshot import PackedSnapshot, Snapshot, SnapshotFile

POD = Pod(
    uid="u1",
    namespace="shop",
    name="cart",
    node="node-1",
    labels={"app": "cart"},
    owner=Owner("Deployment", "cart"),
    images={"app": "app:1"},
    runs={"app": Run(2, ended=True)},
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    snapshot = Snapshot(pods=[POD], namespaces={"shop": {"team": "a"}}, node_labels={"zone": "b"})
    SnapshotFile(tmp_path / "pods.json").save(snapshot)
    assert SnapshotFile(tmp_path / "pods.json").load() == snapshot
    assert [file.name for file in tmp_path.iterdir()] == ["pods.json"]


def test_packed_pods_are_saved_as_others_are(tmp_path: Path) -> None:
    usual, packed = SnapshotFile(tmp_path / "usual.json"), SnapshotFile(tmp_path / "packed.json")
    usual.save(Snapshot(pods=[POD, POD], namespaces={"shop": {"team": "a"}}, node_labels={"zone": "b"}))
    raws = [msgspec.Raw(pack_pod(POD))] * 2
    packed.save(PackedSnapshot(pods=raws, namespaces={"shop": {"team": "a"}}, node_labels={"zone": "b"}))
    assert packed.load() == usual.load()


def test_no_file_is_an_empty_snapshot(tmp_path: Path) -> None:
    assert SnapshotFile(tmp_path / "pods.json").load() == Snapshot()


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "pods.json")
    file.save(Snapshot(pods=[POD]))
    (tmp_path / "pods.tmp").mkdir()  # nothing can be written there
    with pytest.raises(OSError, match="directory"):
        file.save(Snapshot())
    assert file.load() == Snapshot(pods=[POD])


@pytest.mark.parametrize("body", ["", "[]", '{"version":2}', '{"version":1,"pods":[{"uid":1}]}'])
def test_what_cannot_be_read_is_an_error(tmp_path: Path, body: str) -> None:
    (tmp_path / "pods.json").write_text(body)
    with pytest.raises(ValueError, match=r".+"):
        SnapshotFile(tmp_path / "pods.json").load()
