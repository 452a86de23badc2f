"""For `shipper check --online`: can the API be reached, and is everything allowed that the configuration needs?"""

from shipper.filters.kubernetes.api import ApiError, KubernetesApi
from shipper.filters.kubernetes.node import MEND, find_node
from shipper.filters.kubernetes.pod import UNREADABLE

Finding = tuple[bool, str, str]  # whether it works, what was tried, how to mend it


async def check_access(api: KubernetesApi, node: str, *, namespaces: bool, nodes: bool) -> list[Finding]:
    findings: list[Finding] = []
    if not node:
        node, finding = await _check_node(api)
        findings.append(finding)
    findings.append(await _check_watch(api, "pods", f"spec.nodeName={node}"))
    if namespaces:
        findings.append(await _check_watch(api, "namespaces", ""))
    if nodes:
        findings.append(await _check_watch(api, "nodes", f"metadata.name={node}"))
    return findings


async def _check_node(api: KubernetesApi) -> tuple[str, Finding]:
    try:
        node = await find_node(api)
    except (ApiError, *UNREADABLE) as exc:
        return "", (False, f"finding this node's name: {exc}", MEND)
    return node, ((True, f"this node is {node}", "") if node else (False, "finding this node's name", MEND))


async def _check_watch(api: KubernetesApi, resource: str, selector: str) -> Finding:
    """Tried, rather than asked for with a SelfSubjectAccessReview: that may be forbidden too."""
    query = {"fieldSelector": selector, "limit": "1"} if selector else {"limit": "1"}
    what = f"list and watch {resource}" + (f" with {selector}" if selector else "")
    try:
        await api.get(f"/api/v1/{resource}", query, kind="list")
        async with api.watch(f"/api/v1/{resource}", {**query, "timeoutSeconds": "1"}):
            return True, what, ""
    except ApiError as exc:
        return False, f"{what}: {exc}", _mend(exc, resource)


def _mend(error: ApiError, resource: str) -> str:
    if error.status == 401:
        return "the token is not valid: see the pod's ServiceAccount, or token_file or kubeconfig in api"
    if error.status == 403:
        return f"give the ServiceAccount a ClusterRole with get, list and watch on {resource} (deploy/daemonset.yaml)"
    return "is the address in api right, and may this pod reach it (NetworkPolicy)? `api: off` does without metadata"
