"""What each command takes, and what a failure of it says: the commands themselves are in `shipper.commands`."""

import argparse
import contextlib
import datetime as dt
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn, TypeVar

from shipper import __version__, native
from shipper.commands import DONE, FAILED, INTERRUPTED, WRONG_CONFIG
from shipper.errors import ConfigError, ShipperError

E = TypeVar("E", bound=BaseException)
Command = Callable[[argparse.Namespace], int]

DEPLOYED = "/etc/shipper/config.yaml"  # where the image and deploy/daemonset.yaml have it


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    options = _parser().parse_args(arguments)
    code = DONE
    try:
        code = _command(options.command)(options)
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


def _command(name: str) -> Command:
    """`module.function` below `shipper.commands`; no other command's module is loaded."""
    module, _, function = name.partition(".")
    command: Command = getattr(import_module(f"shipper.commands.{module}"), function)
    return command


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

    def add(name: str, command: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    run = add("run", "run.run", "run until SIGTERM or SIGINT")
    run.add_argument("config", metavar="CONFIG")
    run.add_argument("--once", action="store_true", help="deliver everything that is there now, then exit")
    check = add("check", "configuration.check", "read and check the configuration, and print it as it is understood")
    check.add_argument("config", metavar="CONFIG")
    check.add_argument("--online", action="store_true", help="also try each destination and permission")
    audit = add("audit", "audit.show", "the ledger: what became of every byte, by container and output")
    audit.add_argument("config", metavar="CONFIG", nargs="?")
    audit.add_argument("--state-dir", metavar="DIR")
    audit.add_argument("--json", action="store_true")
    _add_archive(audit)
    _add_dead_letters(add("dead-letters", "dead_letters.list_letters", "rejected records: list, show or replay them"))
    told = "cursors by container and output: list or reset them"
    _add_checkpoints(add("checkpoints", "checkpoints.list_cursors", told))
    setup = add(
        "setup",
        "setup.setup",
        "create or update what the destinations need: index templates, data stream, retention, lifecycle rules",
    )
    setup.add_argument("config", metavar="CONFIG")
    setup.add_argument("--dry-run", action="store_true", help="only show the difference")
    _add_replay(add("replay", "replay.replay", "send archived records again: what is there already stays as it is"))
    add("schema", "configuration.schema", "print the JSON schema of the configuration, for editors")
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
    for name, command, text in (
        ("list", "dead_letters.list_letters", "what was rejected, newest last"),
        ("show", "dead_letters.show", "one of them, with its document"),
        ("replay", "dead_letters.replay", "send them again"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(command=command)
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


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("list", help="every cursor", description="every cursor")
    show.set_defaults(command="checkpoints.list_cursors")
    show.add_argument("config", metavar="CONFIG")
    reset = actions.add_parser("reset", help="read again from the head", description="read again from the head")
    reset.set_defaults(command="checkpoints.reset")
    reset.add_argument("config", metavar="CONFIG")
    reset.add_argument("--output", required=True)
    reset.add_argument("--path", help="only log files whose path begins so")


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
