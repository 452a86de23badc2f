"""A real Elasticsearch: Elastic's server with its security, without ILM execution, ingest processors and scripts.

`GET /`, `/_data_stream` and `/_ilm/policy` come from `glue/GluePlugin.java`, since their modules are not published: do
not assert on the shape of those answers.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.servers import install, java
from tests.servers.search_server import HEAP, SearchServer, run

# bcrypt of SearchServer's two passwords
USERS = """\
admin_user:$2a$05$2gqgQ6yhlcumja/BrvDfkeXgQM8jjbozvWBIAL/11kf1ELA7DMtsm
writer_user:$2a$05$On52tN6LV218uKUluK8Kt.8AnAIBJXTFrTAKio/bnU1laRreAOhLm
shipper_user:$2a$05$On52tN6LV218uKUluK8Kt.8AnAIBJXTFrTAKio/bnU1laRreAOhLm
"""
USERS_ROLES = "superuser:admin_user\nwriter:writer_user\nshipper:shipper_user\n"
APPEND = ["auto_configure", "create_doc"]
ROLES = {
    name: {"cluster": ["monitor"], "indices": [{"names": ["logs-*"], "privileges": privileges}]}
    for name, privileges in {"writer": APPEND, "shipper": [*APPEND, "read", "view_index_metadata"]}.items()
}


class Elasticsearch(SearchServer):
    """9.5.3; ready in 10 to 20 s, 800 MB."""

    jdk = install.ELASTICSEARCH_JDK

    def own_settings(self) -> Mapping[str, object]:
        return {
            "cluster.name": "shipper-tests",
            "xpack.security.enabled": True,
            "xpack.security.enrollment.enabled": False,
            "xpack.security.http.ssl.enabled": False,
            "xpack.security.transport.ssl.enabled": False,
        }

    def prepare(self, config: Path) -> None:
        (config / "jvm.options.d").mkdir(exist_ok=True)
        for name in ("jvm.options", "log4j2.properties", "role_mapping.yml"):
            shutil.copy(self.home / "config" / name, config)
        (config / "users").write_text(USERS)
        (config / "users_roles").write_text(USERS_ROLES)
        (config / "roles.yml").write_text(yaml.safe_dump(ROLES))
        (config / "elasticsearch.yml").write_text(yaml.safe_dump(self.settings))

    def command(self, config: Path) -> list[str]:
        return [str(self.home / "bin/elasticsearch")]

    def environment(self, config: Path) -> Mapping[str, str]:
        return {
            "ES_JAVA_HOME": str(java.find_jdk(self.jdk)),
            "ES_PATH_CONF": str(config),
            "ES_TMPDIR": str(self.folder / "tmp"),
            "ES_JAVA_OPTS": f"-Xms{HEAP} -Xmx{HEAP} -XX:TieredStopAtLevel=1",  # the quick compiler: quicker to start
        }


class Elasticsearch8(Elasticsearch):
    """8.19.21, which refuses the media types that a client of version 9 asks for."""

    jdk = install.ELASTICSEARCH_8_JDK


@pytest.fixture(scope="session")
def elasticsearch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elasticsearch]:
    """9.5.3, one for the whole run: use index names of your own, and start it again if you killed it."""
    yield from run(Elasticsearch, install.ELASTICSEARCH, tmp_path_factory)


@pytest.fixture(scope="session")
def elasticsearch8_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elasticsearch8]:
    """8.19.21, likewise."""
    yield from run(Elasticsearch8, install.ELASTICSEARCH_8, tmp_path_factory)
