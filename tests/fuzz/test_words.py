"""What people and pods write: configurations, labels, templates and conditions."""

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.conditions import Answer, ConditionError, parse_condition
from shipper.config.loader import load
from shipper.errors import ConfigError, Problem
from shipper.outputs.s3.keys import MAX_KEY_BYTES, fill_key
from shipper.template import Style, Template
from tests.config.test_any_text import VALUES
from tests.config.test_show import FULL
from tests.fuzz.damage import DAMAGES

WICKED = st.text(st.sampled_from('./\\\0-_~%{}:*?"<>|\n\ud800\u202eéA'), max_size=300) | st.text(max_size=300)
PARTS = st.sampled_from(
    ["{label:a}", "{namespace}", "{field:x.y}", "{pod}", "-", "logs", ".", "{tag}", "/", "{time:%Y.%m}"]
)


@given(DAMAGES.map(lambda damage: damage.of(FULL.encode())) | st.binary(max_size=300))
@settings(deadline=None)
def test_any_file_is_a_configuration_or_all_that_is_wrong_with_places_in_it(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shipper.yaml"
        path.write_bytes(body)
        problems = problems_of(path)
    lines = body.decode(errors="replace").splitlines()
    for problem in problems:
        assert problem.file == os.fspath(path)
        assert 1 <= problem.line <= len(lines) + 1
        assert problem.column >= 1
        assert problem.sentence


def problems_of(path: Path) -> list[Problem]:
    try:
        load(path, {"A": "1"})
    except ConfigError as exc:
        return exc.problems
    return []


@given(st.lists(PARTS, min_size=1, max_size=5).map("".join), WICKED, st.sampled_from(["index", "key", "path"]))
def test_no_value_leaves_where_a_template_puts_it(text: str, value: str, style: Style) -> None:
    rendered = Template.parse(text).render(lambda _kind, _name: value, style=style, time=b"2026-11-21T10:00:00Z")
    assert "\0" not in rendered
    assert rendered.encode()
    if style == "index":
        assert len(rendered.encode()) <= 255
        assert not set(rendered) & set(' "*\\<|,>/?#:')
        assert rendered == rendered.lower()
        assert rendered not in (".", "..")
        assert not rendered.startswith(("-", "_", "+"))
        return
    own = Template.parse(text).render(lambda _kind, _name: "x", style=style, time=b"2026-11-21T10:00:00Z")
    assert rendered.count("/") == own.count("/")
    folders, own_folders = PurePosixPath(rendered).parts, PurePosixPath(own).parts
    assert [part for part in folders if part == ".."] == [part for part in own_folders if part == ".."]
    assert len(fill_key(rendered + "/{id}", "1").encode()) <= MAX_KEY_BYTES


@given(VALUES, st.none() | st.text() | st.integers() | st.floats() | st.booleans() | st.lists(st.text()))
@settings(deadline=None)
def test_any_value_is_a_condition_that_decides_or_an_error(written: Any, value: Any) -> None:
    try:
        condition = parse_condition(written)
    except ConditionError:
        return
    assert condition.decide(lambda _subject, _name: value) in Answer
