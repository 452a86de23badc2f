"""Commands: what they print, and the exit codes that scripts rely on."""

import argparse
import datetime as dt
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from shipper import __version__, cli, native
from shipper.checkpoint import FILE, Changes, Checkpoint, CursorRow, GenerationRow, StateLock
from shipper.commands import configuration
from shipper.dead_letters import DeadLetter, DeadLetters
from shipper.errors import StateError


class Done(NamedTuple):
    code: int
    out: str
    err: str


Shipper = Callable[..., Done]


@pytest.fixture
def shipper(capsys: pytest.CaptureFixture[str]) -> Shipper:
    """In this process: for commands that set up no log."""

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(exit_.value.code, int)
        return Done(exit_.value.code, *capsys.readouterr())

    return run


def process(*arguments: object, before: str = "pass") -> Done:
    program = f"import sys; from shipper.cli import main; {before}; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path, f"{{type: file, name: files, path: '{tmp_path}/out/{{stem}}.ndjson'}}")


def write_config(folder: Path, output: str) -> Path:
    path = folder / "shipper.yaml"
    path.write_text(f"""
service: {{state_dir: {folder}/state, http: off, log_level: warning}}
inputs:
  - {{type: tail, path: ["{folder}/logs/*.log"], tag: "local.{{stem}}"}}
outputs:
  - {output}
""")
    return path


def fill_state(folder: Path) -> Path:
    """Two files; output `files` has all of them, `archive` a part, of which one is spooled."""
    state = folder / "state"
    state.mkdir()
    generations = [
        GenerationRow(id=i, input="tail", path=f"/logs/{name}.log", live_path=f"/logs/{name}.log", size=100)
        for i, name in enumerate(("app", "web"), 1)
    ]
    cursors = [
        CursorRow(generation=1, output="files", acked=100, fates={"delivered": 90, "dead_lettered": 10}),
        CursorRow(generation=2, output="files", acked=100, fates={"delivered": 100}),
        CursorRow(generation=1, output="archive", acked=40, fates={"spooled": 40}),
        CursorRow(generation=2, output="archive", acked=40, fates={"delivered": 40}),
    ]
    with closing(Checkpoint(state)) as checkpoint:
        checkpoint.commit(Changes(generations, cursors))
    return state


def acked(state: Path) -> dict[tuple[int, str], int]:
    with closing(Checkpoint(state)) as checkpoint:
        return {(i, name): row.acked for i, rows in checkpoint.load().cursors.items() for name, row in rows.items()}


# -- the frame --------------------------------------------------------------------------------------------------------


def test_version_says_which_encoder_runs(shipper: Shipper) -> None:
    assert shipper("--version")[:2] == (0, f"shipper {__version__} (encoder: {native.name()})\n")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["checkpoints"], ["check", "a", "--fast"]], ids=str)
def test_wrong_usage_is_exit_code_2_and_says_how(shipper: Shipper, arguments: list[str]) -> None:
    done = shipper(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: shipper")


@pytest.mark.parametrize(
    "command",
    ["run", "check", "audit", "setup", "schema", "dead-letters", "dead-letters list", "checkpoints reset"],
)
def test_every_command_has_help(shipper: Shipper, command: str) -> None:
    done = shipper(*command.split(), "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: shipper {command}")


@pytest.mark.parametrize(
    "command",
    ["run", "check", "audit", "setup", "dead-letters list", "dead-letters replay", "checkpoints list"],
)
def test_missing_configuration_is_one_clear_line(shipper: Shipper, command: str) -> None:
    done = shipper(*command.split(), "nowhere.yaml")
    assert done.code == 2
    assert done.err.splitlines() == [
        "nowhere.yaml:1:1: cannot be read: No such file or directory",
        "shipper: 1 problem in the configuration",
    ]


def test_every_command_is_where_its_name_says() -> None:
    parsers, names = [cli._parser()], set()
    while parsers:
        parser = parsers.pop()
        names.add(parser.get_default("command"))
        choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        parsers += [sub for found in choices for sub in found.values()]
    assert len(names) > 2
    assert all(callable(cli._command(name)) for name in names - {None})


def test_failure_within_task_groups_is_told_as_its_sentence(shipper: Shipper, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [StateError("one")]), StateError("two")])

    monkeypatch.setattr(configuration, "schema", fail)
    assert shipper("schema") == (1, "", "shipper: one\nshipper: two\n")


def test_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(configuration, "schema", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["schema"])


def test_interrupt_leaves_no_traceback(shipper: Shipper, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(configuration, "schema", fail)
    assert shipper("schema") == (130, "", "")


def test_reader_that_has_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "shipper", "schema"], stdout=writer, stderr=subprocess.PIPE, timeout=30
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


# -- check, schema ----------------------------------------------------------------------------------------------------


def test_check_prints_the_resolved_configuration(shipper: Shipper, config: Path) -> None:
    done = shipper("check", config)
    assert (done.code, done.err) == (0, "")
    assert "drain_timeout: 20s" in done.out


def test_check_tells_every_problem_at_its_place(shipper: Shipper, config: Path) -> None:
    config.write_text(config.read_text().replace("http: off", "htp: off").replace("type: file", "type: fil"))
    done = shipper("check", config)
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert lines[0].startswith(f"{config}:2:")
    assert lines[0].endswith("service.htp: unknown key; did you mean http?")
    assert lines[1].startswith(f"{config}:6:")
    assert lines[2:] == ["shipper: 2 problems in the configuration"]


@pytest.mark.parametrize(("grace", "warns"), [("10s", True), ("20s", True), ("40s", False), ("", False)])
def test_check_warns_when_the_pod_is_killed_before_it_has_drained(
    shipper: Shipper, config: Path, monkeypatch: pytest.MonkeyPatch, grace: str, *, warns: bool
) -> None:
    monkeypatch.setenv("POD_GRACE_PERIOD", grace)
    done = shipper("check", config)
    assert done.code == 0
    assert ("warning: the pod is killed" in done.err) is warns


def test_check_explains_a_grace_period_that_it_cannot_read(
    shipper: Shipper, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POD_GRACE_PERIOD", "40")
    done = shipper("check", config)
    assert done.code == 1
    assert 'POD_GRACE_PERIOD: "40" is no duration' in done.err


def test_online_check_of_what_works(shipper: Shipper, config: Path) -> None:
    done = shipper("check", config, "--online")
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("ok   output files: ")


@pytest.mark.parametrize(
    "output",
    [
        "type: elasticsearch, hosts: ['{endpoint}'], index: logs",
        "type: s3, bucket: b, region: r, endpoint: '{endpoint}', key: '{{id}}.gz', auth: {{profile: p}}",
    ],
    ids=["elasticsearch", "s3"],
)
def test_online_check_says_what_is_wrong_and_how_to_mend_it(tmp_path: Path, closed_port: int, output: str) -> None:
    written = output.format(endpoint=f"http://127.0.0.1:{closed_port}")
    done = process("check", write_config(tmp_path, f"{{name: far, {written}}}"), "--online")
    assert done.code == 1
    assert "FAIL output far: " in done.out
    assert "Traceback" not in done.err


def test_schema_is_json(shipper: Shipper) -> None:
    done = shipper("schema")
    assert done.code == 0
    assert "inputs" in json.loads(done.out)["properties"]


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_checkpoints_are_listed_by_file_and_output(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    fill_state(tmp_path)
    done = shipper("checkpoints", "list", config)
    assert done.code == 0
    assert done.out.splitlines() == [
        "/logs/app.log\tarchive\t40 of 100",
        "/logs/app.log\tfiles\t100 of 100",
        "/logs/web.log\tarchive\t40 of 100",
        "/logs/web.log\tfiles\t100 of 100",
    ]


def test_reset_concerns_one_output(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    state = fill_state(tmp_path)
    done = shipper("checkpoints", "reset", config, "--output", "files")
    assert done == (0, "2 cursors of output files begin again at the head of their files\n", "")
    assert acked(state) == {(1, "files"): 0, (2, "files"): 0, (1, "archive"): 40, (2, "archive"): 40}
    assert shipper("audit", config).code == 0


def test_reset_concerns_the_files_of_a_path(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    state = fill_state(tmp_path)
    assert shipper("checkpoints", "reset", config, "--output", "files", "--path", "/logs/web").code == 0
    assert acked(state)[1, "files"] == 100
    assert acked(state)[2, "files"] == 0


def test_reset_leaves_the_size_that_only_the_cursor_has_told(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    state = fill_state(tmp_path)
    with closing(Checkpoint(state)) as checkpoint:
        small = msgspec.structs.replace(checkpoint.load().generations[1], size=10)
        checkpoint.commit(Changes([small]))
    assert shipper("checkpoints", "reset", config, "--output", "files").code == 0
    assert "/logs/app.log\tfiles\t0 of 100" in shipper("checkpoints", "list", config).out


def test_reset_of_what_is_spooled_is_refused(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    state = fill_state(tmp_path)
    done = shipper("checkpoints", "reset", config, "--output", "archive")
    assert done.code == 1
    assert "/logs/app.log: output archive has records in its spool that are not uploaded" in done.err
    assert acked(state)[2, "archive"] == 40


def test_reset_of_an_unknown_output_names_those_there_are(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    fill_state(tmp_path)
    done = shipper("checkpoints", "reset", config, "--output", "fils")
    assert (done.code, done.err) == (
        1,
        "shipper: no cursor belongs to an output fils; there are those of archive, files\n",
    )


def test_reset_beside_a_daemon_is_refused(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    with StateLock(fill_state(tmp_path)):
        done = shipper("checkpoints", "reset", config, "--output", "files")
    assert done.code == 1
    assert "another shipper (process" in done.err


@pytest.mark.parametrize("command", ["audit", "checkpoints list", "checkpoints reset"])
def test_commands_on_a_state_that_is_not_there(shipper: Shipper, config: Path, tmp_path: Path, command: str) -> None:
    more = ["--output", "es"] if command.endswith("reset") else []
    done = shipper(*command.split(), config, *more)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"shipper: there is no state in {tmp_path}/state: no shipper has run with it yet\n"
    assert not (tmp_path / "state").exists()


def test_corrupt_state_is_said_and_left_to_the_daemon(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    (fill_state(tmp_path) / FILE).write_bytes(b"no database" * 1_000)
    done = shipper("audit", config)
    assert done.code == 1
    assert "is corrupt (file is not a database); the daemon sets it aside at its next start" in done.err


# -- audit ------------------------------------------------------------------------------------------------------------


def test_audit_of_a_sound_state(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    state = fill_state(tmp_path)
    done = shipper("audit", config)
    assert done.code == 0
    assert "every byte is accounted for" in done.out
    assert "archive (abandoned)" in done.out
    assert "abandoned" not in shipper("audit", "--state-dir", state).out


def test_audit_of_a_state_that_does_not_add_up(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    with closing(Checkpoint(fill_state(tmp_path))) as checkpoint:
        checkpoint.commit(
            Changes(cursors=[CursorRow(generation=1, output="files", acked=100, fates={"delivered": 99})])
        )
    done = shipper("audit", config)
    assert done.code == 1
    assert "/logs/app.log, output files: does not add up: generation 1: 100 bytes" in done.out
    as_json = shipper("audit", config, "--json")
    assert as_json.code == 1
    found = json.loads(as_json.out)
    assert len(found["problems"]) == 1
    assert [a["adds_up"] for a in found["accounts"] if a["output"] == "files"] == [False, True]


def test_audit_of_nothing(shipper: Shipper) -> None:
    assert shipper("audit") == (1, "", "shipper: audit needs a CONFIG, or --state-dir\n")


# -- dead letters -----------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_and_shown(shipper: Shipper, config: Path, tmp_path: Path) -> None:
    letter = DeadLetter(
        time=0.0,
        output="es",
        reason="mapping",
        target="logs",
        path="/logs/app.log",
        generation=1,
        begin=0,
        end=10,
        source_bytes=10,
        document=b'{"a":1}',
    )
    with closing(DeadLetters.open(fill_state(tmp_path), 1 << 20)) as store:
        store.add([letter])
    listed = shipper("dead-letters", "list", config)
    assert (listed.code, "mapping" in listed.out) == (0, True)
    assert "mapping" not in shipper("dead-letters", "list", config, "--reason", "other").out.split("\n\n")[0]
    shown = shipper("dead-letters", "show", config, 1)
    assert (shown.code, '"a": 1' in shown.out) == (0, True)
    missing = shipper("dead-letters", "show", config, 2)
    assert (missing.code, "there is no dead letter 2" in missing.err) == (1, True)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [1, 2, 3]),
        (["--since", "2026-11-21"], [2, 3]),
        (["--since", "2026-11-21T10:00:00Z", "--until", "2026-11-21T12:00:00+01:00"], [2]),
        (["--until", "2026-11-20T12:00:00"], []),
        (["--since", "1h"], [3]),
        (["--reason", "mapping", "--since", "2026-11-20"], [1, 3]),
        (["--namespace", "bank"], [2]),
        (["--limit", "1", "--output", "es"], [1]),
    ],
)
def test_dead_letters_are_chosen_by_time_reason_and_namespace(
    shipper: Shipper, config: Path, tmp_path: Path, options: list[str], found: list[int]
) -> None:
    noon = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC).timestamp()
    times = [noon, noon + 22 * 3600, time.time()]
    with closing(DeadLetters.open(fill_state(tmp_path), 1 << 20)) as store:
        store.add(
            DeadLetter(
                time=at,
                output="es",
                reason="other" if number == 2 else "mapping",
                namespace="bank" if number == 2 else "shop",
                target="logs",
                path="/logs/app.log",
                generation=1,
                begin=number,
                end=10,
                source_bytes=10,
                document=b'{"n":%d}' % number,
            )
            for number, at in enumerate(times, start=1)
        )
    shown = shipper("dead-letters", "show", config, *options)
    assert [int(number) for number in re.findall(r'"n": (\d)', shown.out)] == found
    assert shown.code == (0 if found else 1)
    table = shipper("dead-letters", "list", config, *options).out.split("\n\n")[0]
    assert [int(line.split()[0]) for line in table.splitlines()[1:]] == found


def test_a_time_that_is_none_is_refused(shipper: Shipper, config: Path) -> None:
    refused = shipper("dead-letters", "list", config, "--since", "yesterday")
    assert (refused.code, '"yesterday" is no time: write 2026-11-21' in refused.err) == (2, True)


def test_there_is_nothing_to_list_or_to_replay_before_the_first_run(shipper: Shipper, config: Path) -> None:
    assert shipper("dead-letters", "list", config) == (0, "there are no dead letters\n", "")
    done = process("dead-letters", "replay", config)
    assert done[:2] == (0, "0 records were delivered, 0 were refused again\n")


# -- run --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "app.log").write_text("".join(f'{{"n":{n}}}\n' for n in range(1_000)))
    return folder


def test_run_once_delivers_what_is_there_and_the_ledger_adds_up(
    shipper: Shipper, config: Path, logs: Path, tmp_path: Path
) -> None:
    done = process("run", config, "--once")
    assert (done.code, done.out) == (0, "")
    lines = (tmp_path / "out" / "app.ndjson").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(1_000))
    assert shipper("audit", config).code == 0
    assert process("run", config, "--once").code == 0
    assert len((tmp_path / "out" / "app.ndjson").read_text().splitlines()) == 1_000


def test_second_process_on_a_state_is_refused(config: Path, logs: Path, tmp_path: Path) -> None:
    with StateLock(tmp_path / "state"):
        done = process("run", config, "--once")
    assert done.code == 1
    assert done.err.startswith(f"shipper: another shipper (process {os.getpid()}) works on {tmp_path}/state; stop it")


def test_state_of_a_newer_version_is_refused(config: Path, tmp_path: Path) -> None:
    with closing(Checkpoint(fill_state(tmp_path))) as checkpoint:
        checkpoint._db.execute("update meta set value = '99' where key = 'version'")
        checkpoint._db.commit()
    done = process("run", config, "--once")
    assert done.code == 1
    assert "was written by a newer shipper (state version 99, this one knows 1)" in done.err


def test_run_once_gives_up_when_nobody_confirms_anything(tmp_path: Path, logs: Path, closed_port: int) -> None:
    output = f"{{type: elasticsearch, name: far, hosts: ['http://127.0.0.1:{closed_port}'], index: logs}}"
    config = write_config(tmp_path, output)
    before = "from shipper.pipeline import pipeline; pipeline.ONCE_PATIENCE_S = 0.5"
    done = process("run", config, "--once", before=before)
    assert done.code == 1
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("shipper: ")]
    assert sentence.startswith("shipper: no output has confirmed anything for")
    assert "Traceback" not in done.err
