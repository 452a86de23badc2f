"""Fetches the servers that the tests run against: `python -m tests.servers.install`.

They come from Maven, as Elastic's and OpenSearch's own builds for plugin authors (`integ-test-zip`: the whole server
with few modules and no JDK), and are unpacked below `SHIPPER_SERVERS` (default `~/.cache/shipper-servers`), 640 MB in
all. What is there already is not fetched again; a part that fails leaves nothing behind.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.servers import java

CACHE = Path(os.environ.get("SHIPPER_SERVERS") or Path.home() / ".cache/shipper-servers")
ELASTICSEARCH = CACHE / "elasticsearch-9.5.3"
ELASTICSEARCH_8 = CACHE / "elasticsearch-8.19.21"
OPENSEARCH_2 = CACHE / "opensearch-2.19.5"
OPENSEARCH_3 = CACHE / "opensearch-3.6.0"
OPENSEARCH_SECURE = CACHE / "opensearch-secure-2.19.4"  # the newest 2.x whose security plugin is published

ELASTICSEARCH_JDK = java.Versions(21)
ELASTICSEARCH_8_JDK = java.Versions(17)
OPENSEARCH_2_JDK = java.Versions(17, 23)  # wants the security manager, which JDK 24 removed
OPENSEARCH_3_JDK = java.Versions(21)

GLUE = Path(__file__).parent / "glue"


def _maven_copy(artifact: str, folder: Path) -> Path:
    """Fetches `group:name:version:type` into a folder; the file's path."""
    if shutil.which("mvn") is None:
        raise java.NotInstalledError("mvn is missing: install Maven")
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
    command = ["mvn", "-q", "-B", plugin, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise java.NotInstalledError(f"Maven could not fetch {artifact}:\n{done.stdout[-2000:]}")
    _, name, version, kind = artifact.split(":")
    return folder / f"{name}-{version}.{kind}"


def _unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            path = Path(opened.extract(entry, folder))
            if not entry.is_dir():
                path.chmod(0o644 | entry.external_attr >> 16 & 0o111)  # zipfile forgets who may execute


def _only_folder(folder: Path) -> Path:
    (found,) = (path for path in folder.iterdir() if path.is_dir())
    return found


def _fetch_server(artifact: str, work: Path) -> Path:
    archive = _maven_copy(artifact, work)
    _unpack(archive, work)
    archive.unlink()
    return _only_folder(work)


def _elasticsearch(version: str, wanted: java.Versions) -> Callable[[Path], Path]:
    def build(work: Path) -> Path:
        jdk = java.find_jdk(wanted)
        home = _fetch_server(f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip", work)
        _build_glue(home, version, jdk, release=wanted.at_least)
        return home

    return build


def _build_glue(home: Path, version: str, jdk: Path, *, release: int) -> None:
    """Compiles the REST endpoints that the distribution lacks (the source says which) into a plugin of the server."""
    plugin, classes = home / "plugins/glue", home / "glue-classes"
    plugin.mkdir(parents=True)
    classpath = f"{home}/lib/*:{home}/modules/x-pack-core/*"
    javac = [str(jdk / "bin/javac"), "--release", str(release), "-proc:none", "-XDsuppressNotes", "-cp", classpath]
    sources = [GLUE / "GluePlugin.java", GLUE / f"elasticsearch{version.partition('.')[0]}" / "VersionedPlugin.java"]
    subprocess.run([*javac, "-d", str(classes), *(str(source) for source in sources)], check=True)
    with zipfile.ZipFile(plugin / "glue.jar", "w") as jar:
        for path in classes.rglob("*.class"):
            jar.write(path, path.relative_to(classes))
    shutil.rmtree(classes)
    descriptor = {
        "name": "glue",
        "description": "REST endpoints for tests",
        "version": "1",
        "classname": "GluePlugin",
        "java.version": str(release),
        "elasticsearch.version": version,
        "extended.plugins": "x-pack-core",
    }
    text = "".join(f"{key}={value}\n" for key, value in descriptor.items())
    (plugin / "plugin-descriptor.properties").write_text(text)


def _opensearch(version: str) -> Callable[[Path], Path]:
    artifact = f"org.opensearch.distribution.integ-test-zip:opensearch:{version}:zip"
    return lambda work: _fetch_server(artifact, work)


def _opensearch_secure(work: Path) -> Path:
    home = _opensearch("2.19.4")(work)
    plugin = _maven_copy("org.opensearch.plugin:opensearch-security:2.19.4.0:zip", work)
    _unpack(plugin, home / "plugins/opensearch-security")
    plugin.unlink()
    return home


PARTS: dict[Path, Callable[[Path], Path]] = {
    ELASTICSEARCH: _elasticsearch("9.5.3", ELASTICSEARCH_JDK),
    ELASTICSEARCH_8: _elasticsearch("8.19.21", ELASTICSEARCH_8_JDK),
    OPENSEARCH_2: _opensearch("2.19.5"),
    OPENSEARCH_3: _opensearch("3.6.0"),
    OPENSEARCH_SECURE: _opensearch_secure,
}


def install(home: Path, build: Callable[[Path], Path]) -> None:
    """Builds one server in a folder beside its place, and moves it there when it is whole."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="unfinished-") as work:
        build(Path(work)).rename(home)


def main() -> int:
    failed = False
    for home, build in PARTS.items():
        if home.exists():
            print(f"{home.name}: is there", flush=True)
            continue
        started = time.monotonic()
        try:
            install(home, build)
        except (OSError, java.NotInstalledError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
            failed = True
            print(f"{home.name}: FAILED: {error}", flush=True)
        else:
            print(f"{home.name}: installed in {time.monotonic() - started:.0f} s", flush=True)
    print(f"servers: {'some are missing, see above' if failed else 'all there'} ({CACHE})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
