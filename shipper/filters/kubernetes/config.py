"""Configuration of the kubernetes filter."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import msgspec

from shipper.filters.config import NAME, FilterConfig
from shipper.values import Doc, Duration, FilePath, Flaw, Name, Names, Url


class KubernetesApiConfig(msgspec.Struct, frozen=True, kw_only=True):
    url: Annotated[Url | None, Doc("The API server, such as `https://10.0.0.1:6443`.")] = None
    ca_file: Annotated[FilePath | None, Doc("Certificates that its own is checked against.")] = None
    token_file: Annotated[FilePath | None, Doc("Bearer token; read again when it changes.")] = None
    kubeconfig: Annotated[FilePath | None, Doc("A kubeconfig in place of `url`.")] = None
    context: Annotated[str | None, Doc("Which context of the kubeconfig; default: its current one.")] = None

    def flaws(self) -> Iterator[Flaw]:
        if (self.url is None) == (self.kubeconfig is None):
            yield Flaw((), "takes one of url and kubeconfig")
        if self.context is not None and self.kubeconfig is None:
            yield Flaw(("context",), "belongs to a kubeconfig")
        for key in ("ca_file", "token_file"):
            if self.kubeconfig is not None and getattr(self, key) is not None:
                yield Flaw((key,), "belongs to url; a kubeconfig names its own")


class KubernetesConfig(FilterConfig, frozen=True, kw_only=True):
    """Metadata of pods, from one watch of this node's pods. The identity that a path gives is always there."""

    kind: ClassVar[str] = "kubernetes"
    name: Annotated[Name, NAME] = "kubernetes"
    node_name: Annotated[
        str | None, Doc("This node, usually `${NODE_NAME:-}` from the downward API; without it, found by asking.")
    ] = None
    api: Annotated[
        Literal["auto", "off"] | KubernetesApiConfig,
        Doc("`auto`: in cluster, then kubeconfig; `off`: the path's identity only; or where it is."),
    ] = "auto"
    labels: Annotated[Names, Doc("Labels of the pod to put into documents: true for all, or names and globs.")] = ("*",)
    annotations: Annotated[
        Names, Doc("Annotations of the pod to put into documents: names and globs, true for all.")
    ] = ()
    namespace_labels: Annotated[Names, Doc("Labels of the namespace; needs the right to watch namespaces.")] = ()
    node_labels: Annotated[Names, Doc("Labels of the node; needs the right to read nodes.")] = ()
    owner: Annotated[bool, Doc("Kind and name of the controller (a ReplicaSet's Deployment).")] = True
    wait: Annotated[
        Duration,
        Doc(
            "At most so long do a pod's first records wait for metadata. "
            "What is routed by metadata waits until it is known."
        ),
    ] = 2.0
