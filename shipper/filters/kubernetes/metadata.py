"""What a configuration makes of a pod: the members of `kubernetes` in documents, exclusion, the end of a container."""

import fnmatch
import re
from collections.abc import Callable
from typing import Any

from shipper.filters.base import Metadata
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.kubernetes.pod import Pod

Labels = dict[str, str]

_TRUE = ("true", "yes", "on")  # as Fluent Bit reads its own annotation


class Describer:
    """Metadata of one container; `namespace_labels` and `node_labels` are all of them, selected here."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._labels = _select(config.labels)
        self._annotations = _select(config.annotations)
        self._namespace_labels = _select(config.namespace_labels)
        self._node_labels = _select(config.node_labels)
        self._owner = config.owner

    def describe(
        self, pod: Pod, *, uid: str, container: str, restart: int | None, namespace_labels: Labels, node_labels: Labels
    ) -> Metadata:
        """`uid` is the path's."""
        members: dict[str, Any] = {
            "pod_id": pod.uid if uid != pod.uid else None,  # a static pod's: the path has its manifest's hash
            "host": pod.node,
            "container_image": pod.images.get(container),
            "labels": self._labels(pod.labels),
            "annotations": self._annotations(pod.annotations),
            "owner": {"kind": pod.owner.kind, "name": pod.owner.name} if self._owner and pod.owner else None,
            "namespace_labels": self._namespace_labels(namespace_labels),
            "node_labels": self._node_labels(node_labels),
        }
        return Metadata(
            document={name: value for name, value in members.items() if value},
            labels=pod.labels,
            annotations=pod.annotations,
            excluded=_is_excluded(pod.annotations, container),
            terminated=pod.has_ended(container, restart),
        )


def _is_excluded(annotations: Labels, container: str) -> bool:
    """Fluent Bit's `fluentbit.io/exclude_stderr` is not honoured: containers are excluded, not streams."""
    if not annotations:
        return False
    names = (
        "shipper.io/exclude",
        f"shipper.io/exclude.{container}",
        "fluentbit.io/exclude",
        f"fluentbit.io/exclude-{container}",
    )
    return any(annotations.get(name, "").strip().lower() in _TRUE for name in names)


def _select(names: tuple[str, ...]) -> Callable[[Labels], Labels]:
    """A function that keeps what fits one of these names and globs."""
    if not names:
        return lambda _: {}
    if "*" in names:
        return lambda every: every
    fits = re.compile("|".join(map(fnmatch.translate, names))).match
    return lambda every: {name: value for name, value in every.items() if fits(name)}
