"""A pod, slimmed to what its records need, at once when it arrives: some 1 KB of the 7 KB that the API sends.

Field names on the wire: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from collections.abc import Iterable
from sys import intern
from typing import Any

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises, of text and depth too
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_MIRROR = "kubernetes.io/config.mirror"


class Owner(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    name: str


class Run(msgspec.Struct, frozen=True, array_like=True):
    """How a container stands: how often it was restarted, and whether this last run has ended."""

    restarts: int
    ended: bool


class Pod(msgspec.Struct, frozen=True, omit_defaults=True):
    """Equal pods give equal answers: nothing is kept here that changes without changing one."""

    uid: str
    namespace: str
    name: str
    node: str = ""
    manifest: str = ""  # of a static pod: the hash of its manifest, which stands in its log's path in the uid's place
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner: Owner | None = None
    images: dict[str, str] = {}  # by container, as the manifest has them
    runs: dict[str, Run] = {}  # by container
    finished: bool = False  # no container will run again

    @property
    def path_uids(self) -> tuple[str, ...]:
        """What may stand in its logs' path."""
        return (self.uid, self.manifest) if self.manifest else (self.uid,)

    def has_ended(self, container: str, restart: int | None) -> bool:
        """Whether the run of this container that has this restart count is over."""
        run = self.runs.get(container)
        if self.finished:
            return True
        if run is None or restart is None:
            return False
        return run.restarts > restart or (run.restarts == restart and run.ended)


_packer = msgspec.json.Encoder(order="deterministic")
_unpacker = msgspec.json.Decoder(Pod)


def pack(values: Any) -> bytes:
    """Of equal values equal bytes, and of others others."""
    return _packer.encode(values)


def pack_pod(pod: Pod) -> bytes:
    return pack(pod)


def unpack_pod(packed: bytes) -> Pod:
    return _unpacker.decode(packed)


class _Reference(msgspec.Struct, frozen=True):
    kind: str
    name: str
    controller: bool | None = None


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Reference] | None = None


class _Container(msgspec.Struct, frozen=True):
    name: str
    image: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None


class _State(msgspec.Struct, frozen=True):
    running: Any = None
    terminated: Any = None


class _ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    restart_count: int = 0
    state: _State = _State()
    last_state: _State = _State()


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = ""
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    ephemeral_container_statuses: list[_ContainerStatus] | None = None


class _Wire(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


_decoder = msgspec.json.Decoder(_Wire)


def decode_pod(body: bytes | msgspec.Raw) -> Pod:
    """Raises one of UNREADABLE when it is no pod."""
    wire = _decoder.decode(body)
    meta, spec, status = wire.metadata, wire.spec, wire.status
    annotations = meta.annotations or {}
    labels = meta.labels or {}
    containers = (*(spec.containers or ()), *(spec.init_containers or ()), *(spec.ephemeral_containers or ()))
    statuses = (
        *(status.container_statuses or ()),
        *(status.init_container_statuses or ()),
        *(status.ephemeral_container_statuses or ()),
    )
    return Pod(
        uid=meta.uid,
        namespace=intern(meta.namespace),  # as many others have it
        name=meta.name,
        node=intern(spec.node_name),
        manifest=annotations.get(CONFIG_MIRROR) or annotations.get(CONFIG_HASH, ""),
        labels=labels,
        annotations=annotations,
        owner=_find_owner(meta.owner_references or (), labels),
        images={container.name: intern(container.image) for container in containers},
        runs={s.name: Run(s.restart_count, _has_run_ended(s)) for s in statuses},
        finished=status.phase in ("Succeeded", "Failed"),
    )


def _has_run_ended(status: _ContainerStatus) -> bool:
    """Between two runs (CrashLoopBackOff) the restart count is still that of the run that has ended."""
    if status.state.terminated is not None:
        return True
    return status.state.running is None and status.last_state.terminated is not None


def _find_owner(references: Iterable[_Reference], labels: dict[str, str]) -> Owner | None:
    """The controller. A Deployment calls its ReplicaSets `<its name>-<pod-template-hash>`: no further right is needed.

    https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/controller/deployment/sync.go (getNewReplicaSet)
    """
    for reference in references:
        if not reference.controller:
            continue
        suffix = "-" + labels.get("pod-template-hash", "")
        if reference.kind == "ReplicaSet" and suffix != "-" and reference.name.endswith(suffix):
            return Owner("Deployment", reference.name.removesuffix(suffix))
        return Owner(reference.kind, reference.name)
    return None
