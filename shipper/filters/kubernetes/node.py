"""The name of this node, by asking for the pod that we are."""

import os
import socket
from pathlib import Path
from urllib.parse import quote

from shipper.filters.kubernetes.api import ApiError, KubernetesApi
from shipper.filters.kubernetes.pod import Pod, decode_pod

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MEND = "set NODE_NAME from spec.nodeName (the downward API), or node_name in the configuration"


async def get_pod(api: KubernetesApi, namespace: str, name: str) -> Pod | None:
    """From etcd, not from a cache. None when there is none. Raises ApiError, msgspec.DecodeError."""
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
    try:
        return decode_pod(await api.get(path, kind="get"))
    except ApiError as exc:
        if exc.status == 404:
            return None
        raise


async def find_node(api: KubernetesApi) -> str:
    """Empty when this process is no pod, or its host name is not its pod's (hostNetwork) and POD_NAME is not set.

    Raises ApiError, msgspec.DecodeError.
    """
    namespace = os.environ.get("POD_NAMESPACE") or _read_namespace()
    if not namespace:
        return ""
    pod = await get_pod(api, namespace, os.environ.get("POD_NAME") or socket.gethostname())
    return pod.node if pod else ""


def _read_namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
