"""Real OpenSearch servers: version 2 and 3 without security, and 2.19 with TLS, users and roles."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.servers import install, java
from tests.servers.search_server import HEAP, SearchServer, run

LOG4J = """\
status=error
appender.c.type=Console
appender.c.name=c
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level=info
rootLogger.appenderRef.c.ref=c
"""


class OpenSearch(SearchServer):
    """Ready in 4 to 10 s, 250 to 780 MB. It asks nobody for a password, and ignores one that is sent."""

    jdk = install.OPENSEARCH_2_JDK

    def own_settings(self) -> Mapping[str, object]:
        return {"cluster.name": "shipper-tests", "bootstrap.system_call_filter": False}

    def prepare(self, config: Path) -> None:
        (config / "opensearch.yml").write_text(yaml.safe_dump(self.settings))
        (config / "log4j2.properties").write_text(LOG4J)

    def command(self, config: Path) -> list[str]:
        agent = self.home / "agent/opensearch-agent.jar"  # takes the security manager's place in 3.x
        guard = f"-javaagent:{agent}" if agent.exists() else "-Djava.security.manager=allow"
        properties = {
            "java.awt.headless": "true",
            "java.io.tmpdir": str(self.folder / "tmp"),
            "jna.nosys": "true",
            "log4j2.disable.jmx": "true",
            "log4j.shutdownHookEnabled": "false",
            "opensearch.bundled_jdk": "false",
            "opensearch.distribution.type": "zip",
            "opensearch.path.conf": str(config),
            "opensearch.path.home": str(self.home),
        }
        return [
            str(java.find_jdk(self.jdk) / "bin/java"),
            f"-Xms{HEAP}",
            f"-Xmx{HEAP}",
            "-XX:TieredStopAtLevel=1",  # the quick compiler: quicker to start
            guard,
            *(f"-D{key}={value}" for key, value in properties.items()),
            "-cp",
            f"{self.home}/lib/*",
            "org.opensearch.bootstrap.OpenSearch",
        ]

    def environment(self, config: Path) -> Mapping[str, str]:
        return {}


class OpenSearch3(OpenSearch):
    jdk = install.OPENSEARCH_3_JDK


# bcrypt of SearchServer's two passwords
PASSWORD_HASHES = {
    "admin_user": "$2a$05$2gqgQ6yhlcumja/BrvDfkeXgQM8jjbozvWBIAL/11kf1ELA7DMtsm",
    "writer_user": "$2a$05$On52tN6LV218uKUluK8Kt.8AnAIBJXTFrTAKio/bnU1laRreAOhLm",
    "shipper_user": "$2a$05$On52tN6LV218uKUluK8Kt.8AnAIBJXTFrTAKio/bnU1laRreAOhLm",
}
WRITER_ROLE = {
    "cluster_permissions": ["indices:data/write/bulk"],
    "index_permissions": [{"index_patterns": ["logs-*"], "allowed_actions": ["create_index", "index"]}],
}
SHIPPER_ROLE = {
    "cluster_permissions": ["indices:data/write/bulk", "indices:data/read/mget", "cluster:monitor/main"],
    "index_permissions": [
        {
            "index_patterns": ["logs-*"],
            "allowed_actions": ["create_index", "index", "get", "indices:monitor/settings/get"],
        }
    ],
}


class SecureOpenSearch(OpenSearch):
    """With the security plugin: TLS (a certificate of its own, `ca_file`), real 401 and 403."""

    scheme = "https"

    def own_settings(self) -> Mapping[str, object]:
        self.ca_file = self.folder / "config/node.pem"
        pem = {"pemcert_filepath": "node.pem", "pemkey_filepath": "node.key", "pemtrustedcas_filepath": "node.pem"}
        return {
            **super().own_settings(),
            "plugins.security.allow_default_init_securityindex": True,
            "plugins.security.nodes_dn": ["CN=localhost"],
            "plugins.security.ssl.transport.enforce_hostname_verification": False,
            "plugins.security.ssl.http.enabled": True,
            **{
                f"plugins.security.ssl.{side}.{key}": value
                for side in ("transport", "http")
                for key, value in pem.items()
            },
        }

    def prepare(self, config: Path) -> None:
        super().prepare(config)
        if not (config / "node.pem").exists():
            _write_certificate(config)
        security = config / "opensearch-security"
        shutil.copytree(self.home / "plugins/opensearch-security/config", security, dirs_exist_ok=True)
        users = {name: {"hash": digest} for name, digest in PASSWORD_HASHES.items()}
        roles = {"writer": WRITER_ROLE, "shipper": SHIPPER_ROLE}
        owners = {"all_access": self.user, "writer": self.writer_user, "shipper": self.shipper_user}
        mapping = {role: {"users": [owner]} for role, owner in owners.items()}
        for kind, content in (("internalusers", users), ("roles", roles), ("rolesmapping", mapping)):
            name = {"internalusers": "internal_users", "rolesmapping": "roles_mapping"}.get(kind, kind)
            text = json.dumps({"_meta": {"type": kind, "config_version": 2}, **content})
            (security / f"{name}.yml").write_text(text)


def _write_certificate(folder: Path) -> None:
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    files = ["-keyout", str(folder / "node.key"), "-out", str(folder / "node.pem")]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
    subprocess.run([*request, "-addext", names, *files], check=True, capture_output=True)


@pytest.fixture(scope="session")
def opensearch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """2.19.5, one for the whole run: use index names of your own, and start it again if you killed it."""
    yield from run(OpenSearch, install.OPENSEARCH_2, tmp_path_factory)


@pytest.fixture(scope="session")
def opensearch3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch3]:
    """3.6.0, likewise."""
    yield from run(OpenSearch3, install.OPENSEARCH_3, tmp_path_factory)


@pytest.fixture(scope="session")
def opensearch_secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureOpenSearch]:
    """2.19.4 with TLS, users and roles, likewise."""
    yield from run(SecureOpenSearch, install.OPENSEARCH_SECURE, tmp_path_factory)
