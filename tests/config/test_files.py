"""Every YAML that the project ships, loaded."""

from pathlib import Path

from shipper.config.loader import load
from shipper.filters.kubernetes.config import KubernetesApiConfig, KubernetesConfig
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.file import FileConfig
from shipper.outputs.s3.config import S3Config

NODE = {
    "POD_IP": "10.1.2.3",
    "NODE_NAME": "node-1",
    "ELASTICSEARCH_URL": "https://elasticsearch:9200",
    "S3_BUCKET": "logs",
}
DEMO = {
    "PODS_DIR": "/d/pods",
    "OUT_DIR": "/d/out",
    "STATE_DIR": "/d/state",
    "KUBERNETES_URL": "http://127.0.0.1:1",
    "HTTP_PORT": "2021",
}


def test_no_file_is_forgotten_here() -> None:
    assert sorted(path.name for path in Path("config").iterdir()) == ["demo.yaml", "kubernetes.yaml", "local.yaml"]


def test_kubernetes_loads_with_the_least_environment() -> None:
    config = load("config/kubernetes.yaml", NODE)
    es, archive = config.outputs
    assert config.service.http is not None
    assert config.service.http.listen == "10.1.2.3:2020"
    assert config.service.state_dir == "/var/lib/shipper"
    assert isinstance(es, ElasticsearchConfig)
    assert es.auth.api_key is None
    assert isinstance(archive, S3Config)
    assert (archive.match, archive.auth, archive.endpoint) == (("archive.*",), "auto", None)


def test_kubernetes_takes_secrets_and_regions_from_the_environment() -> None:
    es, archive = load(
        "config/kubernetes.yaml", NODE | {"ELASTICSEARCH_API_KEY": "a==", "AWS_REGION": "eu-central-1"}
    ).outputs
    assert isinstance(es, ElasticsearchConfig)
    assert es.auth.api_key is not None
    assert es.auth.api_key.get() == "a=="
    assert isinstance(archive, S3Config)
    assert archive.region == "eu-central-1"


def test_local_needs_no_environment_and_no_network() -> None:
    config = load("config/local.yaml", {})
    assert config.service.http is None
    assert config.inputs[0].path == ("./logs/**/*.log",)
    assert [output.kind for output in config.outputs] == ["file"]


def test_demo_writes_documents_and_an_archive() -> None:
    config = load("config/demo.yaml", DEMO)
    assert config.service.state_dir == "/d/state"
    assert config.service.http is not None
    assert config.service.http.listen == "127.0.0.1:2021"
    kubernetes = config.filters[0]
    assert isinstance(kubernetes, KubernetesConfig)
    assert kubernetes.api == KubernetesApiConfig(url="http://127.0.0.1:1")
    paths = {output.name: output.path.text for output in config.outputs if isinstance(output, FileConfig)}
    assert paths == {
        "documents": "/d/out/documents/{namespace}.ndjson",
        "archive": "/d/out/archive/{namespace}/{pod}.ndjson",
    }
