"""deploy/daemonset.yaml, the Dockerfile and config/kubernetes.yaml: read together, as a node would run them."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

import shipper
from shipper.config.loader import load
from shipper.config.model import Config
from tests.deploy.test_image import last_stage

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config/kubernetes.yaml"
OBJECTS: dict[str, Any] = {
    each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy/daemonset.yaml").read_text())
}
POD: dict[str, Any] = OBJECTS["DaemonSet"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
REFERENCES: list[dict[str, Any]] = [variable for variable in CONTAINER["env"] if "valueFrom" in variable]
LITERALS: dict[str, str] = {variable["name"]: variable["value"] for variable in CONTAINER["env"] if "value" in variable}
MOUNTS: dict[str, Any] = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
VOLUMES: dict[str, Any] = {volume["name"]: volume for volume in POD["spec"]["volumes"]}


@pytest.fixture(scope="module")
def config() -> Config:
    """As in a pod whose secret holds no more than it must."""
    given = {
        "ELASTICSEARCH_URL": "https://elasticsearch:9200",
        "NODE_NAME": "node-1",
        "POD_IP": "10.0.0.7",
        "S3_BUCKET": "logs",
    }
    return load(CONFIG, environ=given)


def test_the_configmap_is_the_config_file() -> None:
    assert OBJECTS["ConfigMap"]["data"] == {"config.yaml": CONFIG.read_text()}, (
        "copy config/kubernetes.yaml into the ConfigMap of deploy/daemonset.yaml"
    )


def test_every_variable_that_the_configuration_wants_is_given() -> None:
    wanted = set(re.findall(r"(?<!\$)\$\{(\w+)\}", CONFIG.read_text()))
    always_there = {
        variable["name"] for variable in REFERENCES if not variable["valueFrom"].get("secretKeyRef", {}).get("optional")
    }
    assert wanted == always_there - {"POD_NAME", "POD_NAMESPACE"}  # these two are for finding itself


def test_one_port_from_the_configuration_to_the_probes(config: Config) -> None:
    assert config.service.http is not None
    host, _, port = str(config.service.http.listen).rpartition(":")
    assert host == "10.0.0.7", "probes and Prometheus cannot reach 127.0.0.1"
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": int(port)}]
    assert ("EXPOSE", port) in last_stage()
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == port
    probes = [CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert probes == [{"path": path, "port": "http"} for path in ("/healthz", "/healthz", "/readyz")]


def test_the_image_runs_the_mounted_configuration() -> None:
    commands = {word: json.loads(rest) for word, rest in last_stage() if word in {"ENTRYPOINT", "CMD"}}
    (key,) = OBJECTS["ConfigMap"]["data"]
    assert commands == {"ENTRYPOINT": ["shipper"], "CMD": ["run", f"{MOUNTS['config']['mountPath']}/{key}"]}
    assert VOLUMES["config"]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    assert "command" not in CONTAINER
    assert "args" not in CONTAINER
    assert CONTAINER["image"] == f"shipper:{shipper.__version__}"


def test_the_state_outlives_the_pod_and_is_all_that_can_be_written(config: Config) -> None:
    assert MOUNTS["state"]["mountPath"] == config.service.state_dir
    assert VOLUMES["state"]["hostPath"]["type"] == "DirectoryOrCreate"
    assert [name for name, mount in MOUNTS.items() if not mount.get("readOnly")] == ["state"]
    assert [name for name, volume in VOLUMES.items() if "emptyDir" in volume] == []


def test_the_log_files_stand_where_the_input_looks(config: Config) -> None:
    logs = PurePosixPath(MOUNTS["logs"]["mountPath"])
    assert VOLUMES["logs"]["hostPath"]["path"] == str(logs)
    patterns = [PurePosixPath(pattern) for tail in config.inputs for pattern in tail.path]
    assert patterns
    assert all(logs in pattern.parents for pattern in patterns)


def test_the_grace_period_is_longer_than_the_drain(config: Config) -> None:
    seconds = POD["spec"]["terminationGracePeriodSeconds"]
    assert seconds >= config.service.drain_timeout + 10
    assert {"POD_GRACE_PERIOD": f"{seconds}s"} == LITERALS


def test_uid_0_with_nothing_of_its_power() -> None:
    assert CONTAINER["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(POD["spec"])


def test_the_rights_are_to_look_at_pods() -> None:
    assert OBJECTS["ClusterRole"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    binding, account = OBJECTS["ClusterRoleBinding"], OBJECTS["ServiceAccount"]["metadata"]
    assert binding["roleRef"]["name"] == OBJECTS["ClusterRole"]["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]
    assert POD["spec"]["serviceAccountName"] == account["name"]


def test_the_namespace_admits_the_pods() -> None:
    namespace, quota = OBJECTS["Namespace"]["metadata"], OBJECTS["ResourceQuota"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    scopes = quota["spec"]["scopeSelector"]["matchExpressions"]
    assert scopes == [{"scopeName": "PriorityClass", "operator": "In", "values": [POD["spec"]["priorityClassName"]]}]
    inside = {each["metadata"]["namespace"] for each in OBJECTS.values() if "namespace" in each["metadata"]}
    assert inside == {namespace["name"]}


def test_it_runs_on_every_node_and_is_the_last_to_be_evicted() -> None:
    assert POD["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert POD["spec"]["priorityClassName"] == "system-node-critical"


def test_the_memory_limit_leaves_room_beside_what_is_in_flight(config: Config) -> None:
    limit = CONTAINER["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) * 2**20 >= config.service.memory_limit + 128 * 2**20


def test_what_is_not_the_pods_own_comes_from_the_secret() -> None:
    keys = {each["name"]: each["valueFrom"].get("secretKeyRef", {}).get("key") for each in REFERENCES}
    assert {name for name, key in keys.items() if key is None} == {"NODE_NAME", "POD_IP", "POD_NAME", "POD_NAMESPACE"}
    assert all(key in {name, None} for name, key in keys.items())
