"""Commands and exit codes, nothing else.

0 done (also SIGTERM with undelivered data: it is safe on disk); 1 failed; 2 the configuration is wrong; 3 done, but
records were rejected or bytes were lost.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from shipper import __version__, native
from shipper.errors import ConfigError, ShipperError

if TYPE_CHECKING:
    from shipper.app import Daemon
    from shipper.audit import Account
    from shipper.config.model import Config
    from shipper.outputs.config import OutputConfig
    from shipper.outputs.s3.audit import Ledger, Report, Window
    from shipper.outputs.s3.config import S3Config
    from shipper.replay.archive import Tally

E = TypeVar("E", bound=BaseException)

DEPLOYED = "/etc/shipper/config.yaml"  # where the image and deploy/daemonset.yaml have it
DONE, FAILED, WRONG_CONFIG, WITH_LOSSES = 0, 1, 2, 3
INTERRUPTED = 130  # by Ctrl-C, as shells have it


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    code = DONE
    try:
        code = command(options)
        sys.stdout.flush()
    except* ConfigError as wrong:
        problems = [problem for exc in _leaves(wrong) for problem in exc.problems]
        for problem in problems:
            print(problem, file=sys.stderr)
        count = len(problems)
        print(f"shipper: {count} problem{'s' if count > 1 else ''} in the configuration", file=sys.stderr)
        code = WRONG_CONFIG
    except* ShipperError as failed:
        for exc in _leaves(failed):
            print(f"shipper: {exc}", file=sys.stderr)
        code = FAILED
    except* BrokenPipeError:  # shipper ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except* KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _leaves(group: BaseExceptionGroup[E]) -> list[E]:
    """What failed, without the task groups in which it did."""
    parts = ((_leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]) for exc in group.exceptions)
    return [leaf for part in parts for leaf in part]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shipper", description="Container logs to Elasticsearch and S3: nothing lost, nothing twice."
    )
    parser.add_argument("--version", action="version", version=f"shipper {__version__} (encoder: {native.name()})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    run = add("run", _run, "run until SIGTERM or SIGINT")
    run.add_argument("config", metavar="CONFIG")
    run.add_argument("--once", action="store_true", help="deliver everything that is there now, then exit")
    check = add("check", _check, "read and check the configuration, and print it as it is understood")
    check.add_argument("config", metavar="CONFIG")
    check.add_argument("--online", action="store_true", help="also try each destination and permission")
    audit = add("audit", _audit, "the ledger: what became of every byte, by container and output")
    audit.add_argument("config", metavar="CONFIG", nargs="?")
    audit.add_argument("--state-dir", metavar="DIR")
    audit.add_argument("--json", action="store_true")
    _add_archive(audit)
    _add_dead_letters(add("dead-letters", _dead_letters_list, "rejected records: list, show or replay them"))
    _add_checkpoints(add("checkpoints", _checkpoints_list, "cursors by container and output: list or reset them"))
    setup = add(
        "setup",
        _setup,
        "create or update what the destinations need: index templates, data stream, retention, lifecycle rules",
    )
    setup.add_argument("config", metavar="CONFIG")
    setup.add_argument("--dry-run", action="store_true", help="only show the difference")
    _add_replay(add("replay", _replay, "send archived records again: what is there already stays as it is"))
    add("schema", _schema, "print the JSON schema of the configuration, for editors")
    return parser


def _add_archive(audit: argparse.ArgumentParser) -> None:
    audit.add_argument(
        "--archive", action="store_true", help="instead, hold the buckets of s3 outputs against their manifests"
    )
    audit.add_argument("--deep", action="store_true", help="with --archive: read all objects, and hash them")
    for option, word in (("--since", "since"), ("--until", "until")):
        told = f"with --archive: hours {word} this time: 2026-11-21T10:00:00Z, or 2h for so long ago"
        audit.add_argument(option, type=_moment, metavar="TIME", help=told)


def _add_dead_letters(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, function, text in (
        ("list", _dead_letters_list, "what was rejected, newest last"),
        ("show", _dead_letters_show, "one of them, with its document"),
        ("replay", _dead_letters_replay, "send them again"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(command=function)
        action.add_argument("config", metavar="CONFIG")
        if name == "show":
            action.add_argument("id", type=int, nargs="?", help="as `list` tells it; without it, all that fit")
        action.add_argument("--output")
        action.add_argument("--reason")
        action.add_argument("--namespace")
        for option, word in (("--since", "at this time or later"), ("--until", "before this time")):
            told = f"rejected {word}: 2026-11-21T10:00:00Z, or 2h for so long ago"
            action.add_argument(option, type=_moment, metavar="TIME", help=told)
        action.add_argument("--limit", type=int, default=1000)


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("origin", metavar="FROM", help="s3://BUCKET/PREFIX, or a file or folder")
    parser.add_argument("--to", metavar="OUTPUT", required=True, help="name of an output of the configuration")
    parser.add_argument("--config", metavar="CONFIG", default=DEPLOYED, help=f"default: {DEPLOYED}")
    for option, name, word in (("--from", "since", "of this time or later"), ("--until", "until", "before this time")):
        told = f"records {word}: 2026-11-21T10:00:00Z, or 2h for so long ago"
        parser.add_argument(option, dest=name, type=_moment, metavar="TIME", help=told)
    parser.add_argument("--namespace")
    parser.add_argument("--make-ids", action="store_true", help="also records that were archived without an id")
    parser.add_argument("--dry-run", action="store_true", help="only count what is there, and what would be sent")


def _moment(text: str) -> float:
    """Seconds since the epoch."""
    from shipper.values import parse_duration

    with contextlib.suppress(ValueError):
        return time.time() - parse_duration(text)
    try:
        then = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no time: write 2026-11-21, 2026-11-21T10:00:00Z, or 2h for two hours ago'
        ) from None
    return (then if then.tzinfo else then.replace(tzinfo=dt.UTC)).timestamp()


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("list", help="every cursor", description="every cursor")
    show.set_defaults(command=_checkpoints_list)
    show.add_argument("config", metavar="CONFIG")
    reset = actions.add_parser("reset", help="read again from the head", description="read again from the head")
    reset.set_defaults(command=_checkpoints_reset)
    reset.add_argument("config", metavar="CONFIG")
    reset.add_argument("--output", required=True)
    reset.add_argument("--path", help="only log files whose path begins so")


def _load(options: argparse.Namespace) -> "Config":
    from shipper.config.loader import load

    return load(options.config)


# -- run --------------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # one that comes now waits for who reads the file again
    gc.disable()  # nothing of what is loaded now is garbage; the daemon enables it when all is there
    config = _load(options)
    import uvloop

    from shipper.allocator import settle_allocator
    from shipper.app import Daemon
    from shipper.log import configure

    settle_allocator()
    configure(config.service.log_level)
    progress = _Progress() if options.once else None
    daemon = Daemon(config, partial(_load, options))
    try:
        uvloop.run(_run_to_its_end(daemon, once=options.once, progress=progress))
        if progress:
            progress.end(daemon)
        rejected, lost = daemon.rejected_records(), daemon.lost_bytes()
    finally:
        daemon.close()
        gc.freeze()  # all memory goes with the process: nobody need look through it once more
    if rejected or lost:
        print(
            f"shipper: done, but {rejected} records were rejected (see `shipper dead-letters list`) "
            f"and {lost} bytes were lost (see `shipper audit`)",
            file=sys.stderr,
        )
        return WITH_LOSSES
    return DONE


async def _run_to_its_end(daemon: "Daemon", *, once: bool, progress: "_Progress | None") -> None:
    try:
        await daemon.run(once=once, progress=progress)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # its handler ends with the event loop


class _Progress:
    """One line a second on stderr, in place on a terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, daemon: "Daemon") -> None:
        if self._is_terminal:
            print(f"\r{self._line(daemon)}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self, daemon: "Daemon") -> None:
        print(("\r" if self._is_terminal else "") + self._line(daemon), file=sys.stderr)

    def _line(self, daemon: "Daemon") -> str:
        passed = time.monotonic() - self._began
        records = sum(
            sample.value
            for metric in daemon.metrics.input_records.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
        backlog = ", ".join(f"{name} {daemon.report.backlog(name)[0]:,} bytes to go" for name in daemon.workers)
        return f"{records:,.0f} records, {records / max(passed, 0.001):,.0f} a second; {backlog}"


# -- check, setup, schema ---------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    config = _load(options)
    from shipper.config.show import dump

    print(dump(config), end="")
    _warn_of_short_grace(config.service.drain_timeout)
    return asyncio.run(_check_online(config)) if options.online else DONE


def _warn_of_short_grace(drain_timeout_s: float) -> None:
    """The manifest tells the pod its terminationGracePeriodSeconds."""
    from shipper.values import parse_duration

    written = os.environ.get("POD_GRACE_PERIOD")
    if not written:
        return
    try:
        grace_s = parse_duration(written)
    except ValueError as exc:
        raise ShipperError(f"the environment variable POD_GRACE_PERIOD: {exc}") from exc
    if grace_s <= drain_timeout_s:
        print(
            f"shipper: warning: the pod is killed {written} after SIGTERM, before drain_timeout ({drain_timeout_s:g}s) "
            "is over; raise terminationGracePeriodSeconds",
            file=sys.stderr,
        )


async def _check_online(config: "Config") -> int:
    from shipper.app import make_metadata, make_output
    from shipper.metrics import Metrics

    findings: list[tuple[str, bool, str, str]] = []
    for each in config.outputs:
        output = make_output(each)
        findings += [(f"output {output.name}", f.ok, f.what, f.mend) for f in await output.check()]
    metadata = make_metadata(config, Metrics())
    if metadata is not None:
        findings += [(f"filter {metadata.name}", *finding) for finding in await metadata.check()]
        await metadata.close()
    for who, ok, what, mend in findings:
        print(f"{'ok  ' if ok else 'FAIL'} {who}: {what}" + (f"; {mend}" if mend and not ok else ""))
    return DONE if all(ok for _, ok, _, _ in findings) else FAILED


def _setup(options: argparse.Namespace) -> int:
    config = _load(options)
    from shipper.outputs.s3.config import S3Config

    archives = [o for o in config.outputs if isinstance(o, S3Config)]
    is_needed = False
    for each in config.outputs:
        for line in asyncio.run(_set_up(each, archives, dry_run=options.dry_run)):
            print(f"{each.name}: {line}")
            is_needed = True
    if not is_needed:
        print("nothing to set up: no output of this configuration needs it")
    return DONE


async def _set_up(output: "OutputConfig", archives: "Sequence[S3Config]", *, dry_run: bool) -> list[str]:
    from shipper.outputs.elasticsearch.config import ElasticsearchConfig
    from shipper.outputs.s3.config import S3Config

    match output:
        case ElasticsearchConfig():
            from shipper.outputs.elasticsearch.setup import setup as set_up_elasticsearch

            return await set_up_elasticsearch(output, dry_run=dry_run)
        case S3Config(lifecycle=lifecycle) if lifecycle is not None:
            from shipper.outputs.s3.setup import setup as set_up_bucket

            return await set_up_bucket(output, archives, dry_run=dry_run)
        case _:
            return []


def _schema(options: argparse.Namespace) -> int:  # noqa: ARG001
    from shipper.config.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return DONE


# -- audit, checkpoints -----------------------------------------------------------------------------------------------


def _state_dir(options: argparse.Namespace) -> tuple[Path, "Config | None"]:
    if getattr(options, "state_dir", None):
        return Path(options.state_dir), None
    if options.config is None:
        raise ShipperError("audit needs a CONFIG, or --state-dir")
    config = _load(options)
    return Path(config.service.state_dir), config


def _audit(options: argparse.Namespace) -> int:
    from shipper import audit

    if options.archive:
        return _audit_archive(options)
    if options.deep or options.since is not None or options.until is not None:
        raise ShipperError("--deep, --since and --until go with --archive")
    state_dir, config = _state_dir(options)
    found = _accounts_of_daemon(config) if config else None
    if found is None:
        found = _accounts_of_state(state_dir, config)
    problems = audit.verdict(found)
    if options.json:
        print(json.dumps(audit.as_json(found), indent=2))
    else:
        print(audit.table(found))
        print("\n".join(problems) or "every byte is accounted for")
    return FAILED if problems else DONE


def _audit_archive(options: argparse.Namespace) -> int:
    if options.config is None or options.state_dir:
        raise ShipperError("audit --archive needs a CONFIG, which says where the archive is, and takes no --state-dir")
    config = _load(options)
    from shipper.outputs.s3.audit import Window, as_json, as_text
    from shipper.outputs.s3.config import S3Config

    outputs = [output for output in config.outputs if isinstance(output, S3Config)]
    if not outputs:
        raise ShipperError("there is no archive to audit: this configuration has no output of type s3")
    window = Window(options.since, options.until)
    reports = [
        asyncio.run(_audit_bucket(each, window, _ledger_for(each, config, window), deep=options.deep))
        for each in outputs
    ]
    print(json.dumps(as_json(reports), indent=2) if options.json else as_text(reports))
    return FAILED if any(report.differences for report in reports) else DONE


def _ledger_for(output: "S3Config", config: "Config", window: "Window") -> "Ledger | None":
    """None where it cannot be held against the lists: elsewhere, for some hours only, or where lists expire."""
    from shipper.outputs.s3.audit import Ledger, Window
    from shipper.outputs.s3.manifest import manifest_folder

    state_dir = config.service.state_dir
    expires = output.lifecycle is not None and output.lifecycle.expire is not None
    if window != Window() or expires or not (Path(state_dir) / "lock").exists():
        return None
    from shipper.app import node_name

    found = _accounts_of_daemon(config) or _accounts_of_state(Path(state_dir), config)
    files = sorted(path for path in manifest_folder(state_dir, output.name).glob("*") if path.is_file())
    lists = {str(path): path.read_bytes().rpartition(b"\n")[0] for path in files}  # a line may be on its way
    return Ledger(node_name(config), found, lists)


async def _audit_bucket(config: "S3Config", window: "Window", ledger: "Ledger | None", *, deep: bool) -> "Report":
    from shipper.outputs.s3.audit import audit_archive
    from shipper.outputs.s3.download import DownloadApi

    reader = DownloadApi(config, lambda _status: None)
    try:
        return await audit_archive(config, reader, window=window, deep=deep, ledger=ledger)
    finally:
        await reader.close()


def _accounts_of_state(state_dir: Path, config: "Config | None") -> "list[Account]":
    """As of the last commit."""
    from shipper import audit
    from shipper.checkpoint import read_beside

    stored = read_beside(state_dir)
    rows = ((g, stored.cursors.get(g.id, {}).values()) for g in stored.generations.values())
    return audit.accounts(rows, [o.name for o in config.outputs] if config else None)


def _accounts_of_daemon(config: "Config") -> "list[Account] | None":
    """As of now; None where no daemon with this state answers."""
    if config.service.http is None:
        return None
    from shipper.ask import NoAnswer, ask_daemon
    from shipper.audit import from_json

    try:
        said = ask_daemon(config.service.http.listen, "/api/v1/audit", state_dir=config.service.state_dir)
        found = from_json(said)
    except (NoAnswer, KeyError, TypeError, ValueError) as exc:
        print(f"shipper: from the state directory, as of the last commit: {exc}", file=sys.stderr)
        return None
    print(f"shipper: from the running daemon at {config.service.http.listen}", file=sys.stderr)
    return found


def _checkpoints_list(options: argparse.Namespace) -> int:
    from shipper.checkpoint import read_beside
    from shipper.dead_letters import printable

    stored = read_beside(_state_dir(options)[0])
    for generation in sorted(stored.generations.values(), key=lambda g: (g.live_path, g.id)):
        for name, cursor in sorted(stored.cursors.get(generation.id, {}).items()):
            print(f"{printable(generation.path)}\t{name}\t{cursor.acked} of {generation.size}")
    return DONE


def _checkpoints_reset(options: argparse.Namespace) -> int:
    from shipper.reset import reset_cursors

    count = reset_cursors(_state_dir(options)[0], output=options.output, path=options.path or "")
    print(f"{count} cursors of output {options.output} begin again at the head of their files")
    return DONE


# -- replay -----------------------------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    config = _load(options)
    from shipper.log import configure
    from shipper.replay.archive import Tally
    from shipper.replay.show import Progress, summary

    configure(config.service.log_level)
    progress, tally = Progress(), Tally()
    try:
        asyncio.run(_replay_until_told(config, options, tally, progress))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    finally:
        if tally.objects:
            progress.end(tally)
            print(summary(tally, is_dry=options.dry_run))
    if not tally.is_complete:
        return FAILED
    return WITH_LOSSES if tally.refused else DONE


async def _replay_until_told(
    config: "Config", options: argparse.Namespace, tally: "Tally", progress: Callable[["Tally"], None]
) -> None:
    """SIGTERM stops it, and SIGINT, also where a shell has it ignored by what runs in the background."""
    from shipper.replay.archive import Choice, replay_archive

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    choice = Choice(options.since, options.until, options.namespace, make_ids=options.make_ids)
    await replay_archive(
        config, options.origin, to=options.to, choice=choice, tally=tally, dry_run=options.dry_run, report=progress
    )


# -- dead letters -----------------------------------------------------------------------------------------------------


def _chosen_letters(options: argparse.Namespace) -> dict[str, Any]:
    """Of output, reason, namespace and time; for the store, and for replay."""
    return {name: getattr(options, name) for name in ("output", "reason", "namespace", "since", "until", "limit")}


def _dead_letters_list(options: argparse.Namespace) -> int:
    from shipper.dead_letters import DeadLetters, list_text

    store = DeadLetters.open_beside(_load(options).service.state_dir)
    try:
        print(list_text(store.select(**_chosen_letters(options)), store.summary()))
    finally:
        store.close()
    return DONE


def _dead_letters_show(options: argparse.Namespace) -> int:
    from shipper.dead_letters import DeadLetters, show_text

    store = DeadLetters.open_beside(_load(options).service.state_dir)
    try:
        if options.id is None:
            letters = store.select(**_chosen_letters(options))
        else:
            letters = [letter] if (letter := store.get(options.id)) else []
    finally:
        store.close()
    if not letters:
        which = "that fits" if options.id is None else options.id
        raise ShipperError(f"there is no dead letter {which}; `shipper dead-letters list` names them")
    print("\n\n".join(map(show_text, letters)))
    return DONE


def _dead_letters_replay(options: argparse.Namespace) -> int:
    from shipper.log import configure
    from shipper.replay.letters import replay_letters

    config = _load(options)
    configure(config.service.log_level)
    delivered, refused = asyncio.run(replay_letters(config, **_chosen_letters(options)))
    print(f"{delivered} records were delivered, {refused} were refused again")
    return DONE if not refused else WITH_LOSSES
