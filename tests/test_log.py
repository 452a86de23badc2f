"""The daemon's log: forms, rate limit, and values that no log line should break on."""

import io
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.log import MOST_WINDOWS, Line, LineHandler, RateLimit, configure, fields, show_json, show_readable
from shipper.values import Secret

TIME = 1795255200.1239  # 2026-11-21T10:00:00.123Z


def line(about: dict[str, Any] | None = None, *, exception: str = "") -> Line:
    return Line(TIME, "warning", "shipper.test", "it failed", about or {}, exception)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Logged:
    """A logger with a handler of its own, and a clock that the test moves."""

    def __init__(self, show: Callable[[Line], str] = show_json) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.handler = LineHandler(self.stream, show, clock=lambda: self.now)
        self.logger = logging.Logger("shipper.test")  # noqa: LOG001  outside the tree, so that tests do not meet
        self.logger.addHandler(self.handler)

    def entries(self) -> list[dict[str, Any]]:
        return [orjson.loads(text) for text in self.stream.getvalue().splitlines()]

    def messages(self) -> list[str]:
        return [entry["message"] for entry in self.entries()]


@pytest.fixture
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_line_is_json_with_its_fields_at_the_top() -> None:
    assert show_json(line({"output": "es", "status": 401})) == (
        '{"time":"2026-11-21T10:00:00.123Z","level":"warning","logger":"shipper.test","message":"it failed",'
        '"output":"es","status":401}'
    )


def test_exception_is_part_of_the_line() -> None:
    logged = Logged()
    try:
        int("broken")
    except ValueError:
        logged.logger.exception("it failed", extra=fields(output="es"))
    (entry,) = logged.entries()
    assert entry["exception"].startswith("Traceback (most recent call last)")
    assert entry["exception"].endswith("'broken'")


def test_field_does_not_take_the_place_of_what_every_line_has() -> None:
    entry = orjson.loads(show_json(line({"level": "fatal", "message": "other"})))
    assert (entry["level"], entry["field_level"]) == ("warning", "fatal")
    assert (entry["message"], entry["field_message"]) == ("it failed", "other")


def test_terminal_gets_a_readable_line() -> None:
    text = show_readable(line({"path": "/var/log/a b.log", "status": 401}, exception="Traceback\nValueError: broken"))
    assert text == (
        "2026-11-21T10:00:00.123Z WARNING shipper.test: it failed path='/var/log/a b.log' status=401\n"
        "Traceback\nValueError: broken"
    )


def test_file_name_cannot_steer_the_terminal_or_begin_a_line() -> None:
    text = show_readable(line({"path": "/var/log/\x1b[2Jx\nfake line"}))
    assert text.isprintable()


def test_secret_does_not_show() -> None:
    assert "hunter2" not in show_json(line({"auth": Secret("hunter2")}))
    assert "hunter2" not in show_readable(line({"auth": Secret("hunter2")}))


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())) | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text() | st.tuples(st.text()), inner),
        max_leaves=5,
    )
)
def test_any_value_gives_one_line(value: Any) -> None:
    text = show_json(line({"value": value}))
    assert "\n" not in text
    assert orjson.loads(text)["message"] == "it failed"
    assert "\n" not in show_readable(line({"value": value}))


def test_odd_values_are_shown_as_python_shows_them() -> None:
    circle: list[Any] = []
    circle.append(circle)

    class Unreadable:
        def __str__(self) -> str:
            raise RuntimeError

        def __repr__(self) -> str:
            return "<unreadable>"

    entry = orjson.loads(
        show_json(line({"big": 2**80, "circle": circle, "path": "\udcff", "odd": Unreadable(), "ok": 1}))
    )
    assert entry["big"] == str(2**80)
    assert entry["circle"] == "[[...]]"
    assert entry["path"] == "'\\udcff'"
    assert entry["odd"] == "<unreadable>"
    assert entry["ok"] == 1


def test_line_that_cannot_be_written_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged()
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    logged.stream.close()
    logged.logger.warning("it failed")
    assert "ValueError: I/O operation on closed file" in said.getvalue()


def test_five_equal_lines_a_minute_pass_and_then_their_number() -> None:
    logged = Logged()
    for second in range(20):
        logged.now = second
        logged.logger.warning("it failed", extra=fields(output="es", attempt=second))
    assert logged.messages() == ["it failed"] * 5

    logged.now = 60
    logged.logger.warning("it failed", extra=fields(output="es"))
    *_, count, again = logged.entries()
    assert count["message"] == "more of the same were suppressed"
    assert (count["suppressed"], count["sentence"], count["output"]) == (15, "it failed", "es")
    assert again["message"] == "it failed"


def test_number_of_the_suppressed_comes_with_any_later_line() -> None:
    logged = Logged()
    for _ in range(7):
        logged.logger.warning("it failed")
    logged.now = 61
    logged.logger.warning("something else")
    assert logged.messages()[5:] == ["more of the same were suppressed", "something else"]


def test_number_of_the_suppressed_is_said_at_the_end() -> None:
    logged = Logged()
    for _ in range(7):
        logged.logger.warning("it failed")
    logged.handler.close()
    assert logged.entries()[-1]["suppressed"] == 2


@pytest.mark.parametrize("field", ["output", "input", "filter", "path", "task"])
def test_lines_about_different_things_are_no_repeats(field: str) -> None:
    logged = Logged()
    for i in range(20):
        logged.logger.warning("it failed", extra=fields(**{field: f"thing {i % 4}"}))
    assert len(logged.entries()) == 20


def test_library_lines_that_differ_in_their_arguments_are_repeats() -> None:
    logged = Logged()
    for i in range(20):
        logged.logger.warning("node %s has failed", i)
    assert logged.messages() == [f"node {i} has failed" for i in range(5)]


def test_rate_limit_remembers_a_bounded_number_of_lines() -> None:
    limit = RateLimit()
    for i in range(MOST_WINDOWS * 2):
        for _ in range(6 if i == 0 else 1):
            written = limit.admit(line(), (i,), 0.0)
        if i == MOST_WINDOWS:
            assert [one.fields.get("suppressed") for one in written] == [1, None]
    assert len(limit._windows) <= MOST_WINDOWS


@pytest.mark.usefixtures("restored_root")
def test_configured_log_has_json_for_a_pipe_and_readable_lines_for_a_terminal() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    configure("info", stream=pipe)
    logging.getLogger("shipper.x").info("it began", extra=fields(output="es"))
    configure("info", stream=terminal)
    logging.getLogger("shipper.x").info("it began", extra=fields(output="es"))
    assert orjson.loads(pipe.getvalue())["output"] == "es"
    assert terminal.getvalue().endswith(" INFO    shipper.x: it began output=es\n")


@pytest.mark.usefixtures("restored_root")
def test_libraries_are_heard_from_warning_on() -> None:
    stream = io.StringIO()
    configure("debug", stream=stream)
    for name in ("shipper.x", "elastic_transport.node", "aiobotocore.hooks", "botocore.auth", "aiohttp.access"):
        logging.getLogger(name).info("about %s", name)
    logging.getLogger("kubernetes_asyncio.client.rest").warning("about a warning")
    assert [orjson.loads(text)["message"] for text in stream.getvalue().splitlines()] == [
        "about shipper.x",
        "about a warning",
    ]


@pytest.mark.usefixtures("restored_root")
def test_level_holds_for_libraries_too_when_it_is_higher() -> None:
    stream = io.StringIO()
    configure("error", stream=stream)
    logging.getLogger("botocore.auth").warning("about a warning")
    assert stream.getvalue() == ""
