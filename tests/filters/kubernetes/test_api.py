"""Access: kubeconfig, in cluster, by address; and what is imported for it."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from shipper.filters.kubernetes.api import Access, ApiError, KubernetesApi, Lines
from shipper.filters.kubernetes.config import KubernetesApiConfig
from shipper.metrics import Metrics
from tests.filters.kubernetes.conftest import QUICK, World


@asynccontextmanager
async def api_for(access: Access) -> AsyncIterator[KubernetesApi]:
    api = KubernetesApi(access, Metrics(), QUICK)
    yield api
    await api.close()


def write_kubeconfig(file: Path, url: str, *, current: str = "a") -> Path:
    names = ("a", "b")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": name, "user": {"tokenFile": f"token-{name}"}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": name}} for name in names],
    }
    file.write_text(yaml.safe_dump(config))
    for name in names:
        file.with_name(f"token-{name}").write_text(f"secret-{name}")
    return file


def test_the_models_of_the_library_are_not_imported() -> None:
    program = """
import json, sys
from shipper.filters.kubernetes import api
before = {name for name in sys.modules if name.startswith("kubernetes_asyncio")}
imported = []
class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("kubernetes_asyncio"):
            imported.append(name)
sys.meta_path.insert(0, Watcher())
api._load_library()
slim = list(imported)
after = {name for name in sys.modules if name.startswith("kubernetes_asyncio")}
from kubernetes_asyncio.client import V1Pod  # whoever wants all of it still gets it
print(json.dumps([sorted(before), slim, sorted(after)]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, imported, after = json.loads(done.stdout)
    assert before == []
    assert after == []
    assert "kubernetes_asyncio.client.api_client" in imported
    assert len(imported) < 20


async def test_a_kubeconfig_gives_address_and_token(world: World, tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "config", world.api.url)
    async with api_for(KubernetesApiConfig(kubeconfig=str(file))) as api:
        await api.get("/api/v1/pods", kind="list")
    async with api_for(KubernetesApiConfig(kubeconfig=str(file), context="b")) as api:
        await api.get("/api/v1/pods", kind="list")
    assert [request.token for request in world.api.requests] == ["secret-a", "secret-b"]


async def test_auto_takes_the_kubeconfig_outside_of_a_cluster(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", world.api.url, current="b")))
    async with api_for("auto") as api:
        await api.get("/api/v1/pods", kind="list")
    assert world.api.requests[0].token == "secret-b"


async def test_auto_says_what_it_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    async with api_for("auto") as api:
        with pytest.raises(ApiError, match="this is no pod, and there is no kubeconfig"):
            await api.get("/api/v1/pods", kind="list")


async def test_auto_in_a_pod_without_a_service_account_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    async with api_for("auto") as api:
        with pytest.raises(ApiError, match="token file does not exist"):
            await api.get("/api/v1/pods", kind="list")


@pytest.mark.parametrize("body", ["", "[]", "{", "current-context: x\ncontexts: []\nclusters: []\nusers: []\n"])
async def test_a_broken_kubeconfig_is_one_sentence(tmp_path: Path, body: str) -> None:
    (tmp_path / "config").write_text(body)
    async with api_for(KubernetesApiConfig(kubeconfig=str(tmp_path / "config"))) as api:
        with pytest.raises(ApiError, match="there is no access to the Kubernetes API"):
            await api.get("/api/v1/pods", kind="list")


async def test_a_token_from_a_kubeconfig_is_read_again_after_401(world: World, tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "config", world.api.url)
    world.api.trouble.tokens = {"secret-new"}
    async with api_for(KubernetesApiConfig(kubeconfig=str(file))) as api:
        with pytest.raises(ApiError, match="401: Unauthorized"):
            await api.get("/api/v1/pods", kind="list")
        file.with_name("token-a").write_text("secret-new")
        await api.get("/api/v1/pods", kind="list")


async def test_a_long_answer_and_a_gzipped_one_arrive_whole(world: World) -> None:
    for i in range(300):
        world.api.add_pod(f"web-{i}")
    async with api_for(KubernetesApiConfig(url=world.api.url)) as api:
        listed = json.loads(await api.get("/api/v1/pods", kind="list"))
    assert len(listed["items"]) == 300


async def test_an_answer_that_is_not_from_an_api_server_is_shown(world: World) -> None:
    async with api_for(KubernetesApiConfig(url=world.api.url)) as api:
        with pytest.raises(ApiError, match="404: Not Found") as caught:
            await api.get("/somewhere/else", kind="get")
    assert caught.value.status == 404


class Pieces:
    """The content of an answer, as it comes."""

    def __init__(self, *pieces: bytes) -> None:
        self.content, self._left = self, list(pieces)

    async def readany(self) -> bytes:
        return self._left.pop(0) if self._left else b""


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_lines_of_a_watch_are_whole_however_they_come(size: int) -> None:
    text = b"one\ntwo\n\nthree\r\nfo"
    lines = Lines(Pieces(*(text[i : i + size] for i in range(0, len(text), size))), "/x")
    assert [await lines.next() for _ in range(6)] == [b"one\n", b"two\n", b"\n", b"three\r\n", b"fo", b""]


async def test_a_line_that_never_ends_is_an_error() -> None:
    lines = Lines(Pieces(b"short\n", *[b"x" * (1 << 20)] * 5, b"\n"), "/x")
    assert await lines.next() == b"short\n"
    with pytest.raises(ApiError, match="a line of more than"):
        await lines.next()
