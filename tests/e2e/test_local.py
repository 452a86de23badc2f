"""A directory of logs to files, with the configuration that ships with the project."""

import json
from pathlib import Path

from tests.e2e.conftest import MakeDaemon

CONFIG = Path(__file__).parents[2] / "config" / "local.yaml"


async def test_a_directory_of_logs_becomes_files(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    (logs / "deep" / "er").mkdir(parents=True)
    (logs / "web.log").write_text("first\n\nsecond\nthird without its newline")
    (logs / "deep" / "er" / "api.log").write_text('{"level":"info","time":"2026-11-21T10:00:00Z","n":1}\n')
    (logs / "notes.txt").write_text("no log\n")
    environ = {"LOG_DIR": str(logs), "OUT_DIR": str(out), "STATE_DIR": str(tmp_path / "state")}
    daemon = make_daemon({}, **environ)
    daemon.config.write_text(CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    assert await daemon.once() == 0, daemon.log()
    assert sorted(path.name for path in out.iterdir()) == ["api.ndjson", "web.ndjson"]
    web = [json.loads(line) for line in (out / "web.ndjson").read_text().splitlines()]
    assert [d["message"] for d in web] == ["first", "second", "third without its newline"]
    assert [d["file"] for d in web] == [{"path": str(logs / "web.log"), "offset": n} for n in (0, 7, 14)]
    (api,) = [json.loads(line) for line in (out / "api.ndjson").read_text().splitlines()]
    assert (api["@timestamp"], api["level"], api["n"]) == ("2026-11-21T10:00:00Z", "info", 1)
    await daemon.settled()


async def test_a_second_run_delivers_only_what_is_new(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    logs.mkdir()
    (logs / "web.log").write_text("first\n")
    environ = {"LOG_DIR": str(logs), "OUT_DIR": str(out), "STATE_DIR": str(tmp_path / "state")}
    daemon = make_daemon({}, **environ)
    daemon.config.write_text(CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    assert await daemon.once() == 0, daemon.log()
    with (logs / "web.log").open("a") as file:
        file.write("second\n")
    for _ in range(2):
        assert await daemon.once() == 0, daemon.log()
    documents = [json.loads(line) for line in (out / "web.ndjson").read_text().splitlines()]
    assert [d["message"] for d in documents] == ["first", "second"]
    await daemon.settled()
