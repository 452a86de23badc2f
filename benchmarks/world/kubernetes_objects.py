"""Pods, namespaces and nodes as the Kubernetes API has them, with everything that is not wanted of them too."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

Object = dict[str, Any]
Labels = Mapping[str, str]

TIME = "2026-11-21T09:00:00Z"


def make_uid(*seed: str) -> str:
    """The same for the same seed, in the form of a uid."""
    digest = hashlib.md5("/".join(seed).encode(), usedforsecurity=False).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:]))


def make_pod(
    name: str,
    *,
    namespace: str = "default",
    uid: str | None = None,
    node: str = "node-1",
    containers: Sequence[str] = ("app",),
    init_containers: Sequence[str] = (),
    labels: Labels | None = None,
    annotations: Labels | None = None,
    owner: tuple[str, str] | None = None,
    manifest_hash: str | None = None,
    phase: str = "Running",
) -> Object:
    """Some 5 KB. `owner`: kind and name of its controller; `manifest_hash` makes it the mirror of a static pod."""
    app = name.partition("-")[0]
    labels = {"app": app, "app.kubernetes.io/name": app, **(labels or {})}
    annotations = dict(annotations or {})
    if owner and owner[0] == "ReplicaSet":
        labels.setdefault("pod-template-hash", owner[1].rpartition("-")[2])
    if manifest_hash:
        owner = ("Node", node)
        annotations |= {f"kubernetes.io/config.{which}": manifest_hash for which in ("hash", "mirror")}
        annotations["kubernetes.io/config.source"] = "file"
    metadata = make_metadata(name, namespace, uid or make_uid("pod", namespace, name), labels)
    metadata["annotations"] = annotations
    if owner:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "apps/v1",
                "kind": owner[0],
                "name": owner[1],
                "uid": make_uid(*owner),
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return {
        "metadata": metadata,
        "spec": {
            "containers": [_make_container(container) for container in containers],
            **({"initContainers": [_make_container(c) for c in init_containers]} if init_containers else {}),
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": True,
            **({"nodeName": node} if node else {}),
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 30,
            "tolerations": [{"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
            "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [{"x": "y"}] * 3}}],
        },
        "status": {
            "phase": phase,
            "conditions": [
                {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": TIME}
                for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [make_status(container) for container in containers],
            **(
                {"initContainerStatuses": [make_status(c, state="terminated") for c in init_containers]}
                if init_containers
                else {}
            ),
            "hostIP": "10.0.0.1",
            "podIP": "10.2.0.7",
            "podIPs": [{"ip": "10.2.0.7"}],
            "qosClass": "Burstable",
            "startTime": TIME,
        },
    }


def make_status(container: str, *, restarts: int = 0, state: str = "running", last_state: str = "") -> Object:
    """`state` is running, waiting or terminated; `last_state` is that of the run before."""
    return {
        "name": container,
        "image": f"registry.example/{container}:1.2.3",
        "imageID": "registry.example/x@sha256:" + "0" * 64,
        "containerID": "containerd://" + hashlib.sha256(container.encode()).hexdigest(),
        "ready": state == "running",
        "restartCount": restarts,
        "started": state == "running",
        "state": {state: _STATES[state]},
        "lastState": {last_state: _STATES[last_state]} if last_state else {},
    }


def make_metadata(name: str, namespace: str, uid: str, labels: Labels) -> Object:
    fields: Object = {f"f:{label}": {} for label in ("app", "env", "image", "ports", "resources")}
    return {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "uid": uid,
        "creationTimestamp": TIME,
        "labels": dict(labels),
        "managedFields": [
            {
                "manager": manager,
                "operation": "Update",
                "time": TIME,
                "fieldsV1": {"f:spec": {str(i): fields for i in range(8)}},
            }
            for manager in ("kube-controller-manager", "kubelet")
        ],
    }


def _make_container(name: str) -> Object:
    return {
        "name": name,
        "image": f"registry.example/{name}:1.2.3",
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": f"SETTING_{i}", "value": "some value of the application"} for i in range(10)],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "terminationMessagePath": "/dev/termination-log",
        "volumeMounts": [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access"}],
    }


_STATES: dict[str, Object] = {
    "running": {"startedAt": TIME},
    "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"},
    "terminated": {"exitCode": 1, "reason": "Error", "startedAt": TIME, "finishedAt": TIME},
}
