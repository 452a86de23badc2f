"""What a configuration makes of a pod."""

from typing import Any

import pytest

from shipper.filters.base import Metadata
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.kubernetes.metadata import Describer
from shipper.filters.kubernetes.pod import Owner, Pod

POD = Pod(
    uid="u1",
    namespace="shop",
    name="cart",
    node="node-1",
    labels={"app": "cart", "app.kubernetes.io/name": "cart", "tier": "gold"},
    annotations={"shipper.io/archive": "true", "checksum/config": "123"},
    owner=Owner("Deployment", "cart"),
    images={"app": "app:1"},
)


def describe(pod: Pod = POD, *, uid: str = "u1", container: str = "app", **config: Any) -> Metadata:
    return Describer(KubernetesConfig(**config)).describe(
        pod, uid=uid, container=container, restart=0, namespace_labels={"team": "a"}, node_labels={"zone": "b"}
    )


def test_the_defaults_give_labels_image_and_owner() -> None:
    assert describe().document == {
        "host": "node-1",
        "container_image": "app:1",
        "labels": POD.labels,
        "owner": {"kind": "Deployment", "name": "cart"},
    }


def test_names_and_globs_select() -> None:
    document = describe(labels=("app", "app.*"), annotations=("shipper.io/*",), namespace_labels=("*",)).document
    assert document["labels"] == {"app": "cart", "app.kubernetes.io/name": "cart"}
    assert document["annotations"] == {"shipper.io/archive": "true"}
    assert document["namespace_labels"] == {"team": "a"}


def test_nothing_selected_is_not_there() -> None:
    document = describe(labels=(), annotations=("none",), owner=False, node_labels=()).document
    assert document == {"host": "node-1", "container_image": "app:1"}


def test_conditions_see_all_labels_and_annotations() -> None:
    answer = describe(labels=(), annotations=())
    assert answer.labels == POD.labels
    assert answer.annotations == POD.annotations


def test_a_static_pod_gets_the_uid_of_the_api() -> None:
    assert describe(uid="hash1").document["pod_id"] == "u1"


@pytest.mark.parametrize(
    ("annotations", "excluded"),
    [
        ({}, False),
        ({"shipper.io/exclude": "true"}, True),
        ({"shipper.io/exclude": "True"}, True),
        ({"shipper.io/exclude": "false"}, False),
        ({"shipper.io/exclude": ""}, False),
        ({"shipper.io/exclude.app": "true"}, True),
        ({"shipper.io/exclude.proxy": "true"}, False),
        ({"fluentbit.io/exclude": "true"}, True),
        ({"fluentbit.io/exclude-app": "true"}, True),
        ({"fluentbit.io/exclude-proxy": "true"}, False),
        ({"fluentbit.io/exclude_stderr": "true"}, False),
    ],
)
def test_annotations_exclude(annotations: dict[str, str], excluded: bool) -> None:
    pod = Pod(uid="u1", namespace="shop", name="cart", annotations=annotations)
    assert describe(pod).excluded is excluded
