"""The wiring: what is configured is there, nothing else is loaded, and what cannot start says why in one sentence."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shipper.app import Daemon
from shipper.config.loader import load_text
from shipper.config.model import Config
from shipper.errors import ShipperError, StateLocked
from shipper.parts import make_output, node_name, own_pod
from tests.pipeline.bench import line

LIBRARIES = {
    "elastic_transport",
    "requests",
    "elasticsearch",
    "aiobotocore",
    "botocore",
    "kubernetes_asyncio",
    "aiohttp",
}
OUTPUTS: dict[str, dict[str, Any]] = {
    "elasticsearch": {"type": "elasticsearch", "hosts": ["http://127.0.0.1:9200"], "index": "logs"},
    "s3": {"type": "s3", "bucket": "logs", "region": "eu-central-1"},
    "file": {"type": "file", "path": "out.ndjson"},
    "stdout": {"type": "stdout"},
}


def config_of(
    folder: Path, *outputs: dict[str, Any], filters: tuple[Any, ...] = (), **service: Any
) -> tuple[Path, Config]:
    path = folder / "shipper.yaml"
    service = {"state_dir": str(folder / "state"), "http": False, **service}
    pods = {"type": "tail", "name": "pods", "path": f"{folder}/pods/*/*/*.log"}
    text = json.dumps({"service": service, "inputs": [pods], "filters": list(filters), "outputs": list(outputs)})
    path.write_text(text)
    return path, load_text(text)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_type_of_output_is_made(tmp_path: Path, kind: str) -> None:
    _, config = config_of(tmp_path, OUTPUTS[kind])
    output = make_output(config.outputs[0])
    assert (output.kind, output.name) == (kind, kind)
    assert output.max_batch_bytes > 0
    assert output.concurrency > 0


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("file", set()), ("stdout", set()), ("elasticsearch", {"elastic_transport", "aiohttp"})],
)
def test_only_the_library_of_a_configured_output_is_loaded(tmp_path: Path, kind: str, wanted: set[str]) -> None:
    path, _ = config_of(tmp_path, OUTPUTS[kind])
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from shipper.config.loader import load\n"
        "from shipper.app import Daemon\n"
        "Daemon(load(Path(sys.argv[1]))).close()\n"
        f"print(*sorted({LIBRARIES!r} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == wanted


def test_its_own_pod_is_known_by_name_and_namespace_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    monkeypatch.setenv("POD_NAME", "shipper-x")
    assert own_pod() is None
    monkeypatch.setenv("POD_NAMESPACE", "logging")
    assert own_pod() == ("logging", "shipper-x")


def test_the_nodes_name_is_the_configured_one_then_the_environments_then_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    monkeypatch.setattr("socket.gethostname", lambda: "machine")
    _, plain = config_of(tmp_path, OUTPUTS["stdout"])
    assert node_name(plain) == "machine"
    monkeypatch.setenv("NODE_NAME", "by-environment")
    assert node_name(plain) == "by-environment"
    _, named = config_of(tmp_path, OUTPUTS["stdout"], filters=({"type": "kubernetes", "node_name": "configured"},))
    assert node_name(named) == "configured"


def write_log(folder: Path, *texts: str) -> None:
    log = folder / "pods" / "shop_cart_u" / "app" / "0.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.writelines(line(i, text) for i, text in enumerate(texts))


async def run_once(config: Config) -> Daemon:
    daemon = Daemon(config)
    try:
        await daemon.run(once=True)
    finally:
        daemon.close()
    return daemon


async def test_a_run_delivers_and_a_second_one_has_nothing_to_do(tmp_path: Path) -> None:
    write_log(tmp_path, "a", "b")
    out = tmp_path / "out.ndjson"
    _, config = config_of(tmp_path, {"type": "file", "path": str(out)})
    for _ in range(2):
        daemon = await run_once(config)
        assert (daemon.rejected_records(), daemon.lost_bytes()) == (0, 0)
        assert [json.loads(text)["message"] for text in out.read_text().splitlines()] == ["a", "b"]


def test_the_garbage_collector_runs_while_the_daemon_does(tmp_path: Path) -> None:
    """`shipper run` switches it off to load; what fails and is tried again for days leaves circles behind."""
    write_log(tmp_path, "a")
    path, _ = config_of(tmp_path, {"type": "file", "path": str(tmp_path / "out.ndjson")})
    program = (
        "import atexit, gc, sys\n"
        "from shipper import cli\n"
        "atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0))\n"
        "cli.main(['run', sys.argv[1], '--once'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


async def test_all_outputs_together_stay_within_the_memory_limit(tmp_path: Path) -> None:
    files = [{"type": "file", "name": name, "path": f"{tmp_path}/{name}.ndjson"} for name in ("a", "b", "c", "d")]
    _, config = config_of(tmp_path, *files, memory_limit="50MiB")
    daemon = Daemon(config)
    assert len(daemon.workers) == len(files)
    assert sum(worker.limit_bytes for worker in daemon.workers.values()) <= 50 << 20
    assert min(worker.limit_bytes for worker in daemon.workers.values()) >= config.outputs[0].batch.max_bytes
    daemon.close()


async def test_a_daemon_that_is_told_to_stop_saves_what_it_has_done(tmp_path: Path) -> None:
    write_log(tmp_path, "a")
    out = tmp_path / "out.ndjson"
    _, config = config_of(tmp_path, {"type": "file", "path": str(out)})
    daemon, stop = Daemon(config), asyncio.Event()
    stop.set()
    await daemon.run(stop=stop)
    daemon.close()
    await run_once(config)
    assert len(out.read_text().splitlines()) == 1


async def test_a_state_directory_has_one_user(tmp_path: Path) -> None:
    _, config = config_of(tmp_path, OUTPUTS["stdout"])
    daemon = Daemon(config)
    with pytest.raises(StateLocked, match="another shipper"):
        Daemon(config)
    daemon.close()
    Daemon(config).close()


def secured(folder: Path) -> dict[str, Any]:
    (folder / "ca.pem").write_text("this is no certificate\n")
    return {**OUTPUTS["elasticsearch"], "hosts": ["https://127.0.0.1:1"], "tls": {"ca_file": str(folder / "ca.pem")}}


async def test_a_bad_certificate_file_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    _, config = config_of(tmp_path, {"type": "file", "path": str(tmp_path / "out")}, secured(tmp_path))
    with pytest.raises(ShipperError, match="output elasticsearch cannot be started: a certificate or key file"):
        await run_once(config)


def test_a_bad_certificate_file_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    path, _ = config_of(tmp_path, secured(tmp_path))
    command = [sys.executable, "-m", "shipper", "run", str(path), "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    said = [text for text in done.stderr.splitlines() if not text.startswith("{")]
    assert done.returncode == 1
    assert len(said) == 1
    assert "output elasticsearch cannot be started" in said[0]
