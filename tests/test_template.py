"""Templates: whatever a value is, it stays where the template's author put it."""

import datetime as dt
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shipper.template import LONGEST_VALUE_BYTES, PLAIN, Style, Template, confine, parse_time

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # surrogates too
HOSTILE = st.sampled_from(
    [
        "../../etc/passwd",
        "..",
        ".",
        "",
        "/",
        "\\",
        "a\nb",
        "a\x00b",
        "\x9b",
        "\udcff",
        ".security",
        "-x",
        "_x",
        "+x",
        "A B",
        "*",
        "<x>",
        "a,b",
        "a#b:c?",
        "x" * 5_000,
        "ä" * 5_000,
    ]
)
VALUES = st.one_of(HOSTILE, ANY_TEXT, st.text("./\\-_+ aÄ\n", max_size=6))
TIMES = st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59))  # noqa: DTZ001


def given_as(value: str | None) -> Callable[[str, str], str | None]:
    return lambda _placeholder, _name: value


def rfc3339(time: dt.datetime) -> bytes:
    return (time.isoformat(timespec="seconds") + "Z").encode()


@given(VALUES, VALUES)
@example(".", ".")
def test_key_or_path_never_leaves_its_template(namespace: str, label: str) -> None:
    template = Template.parse("logs/{namespace}{label:app}/.{namespace}/{label:app}.x/{label:app}")
    values = {"namespace": namespace, "label": label}
    styles: tuple[Style, ...] = ("key", "path")
    for style in styles:
        rendered = template.render(lambda placeholder, _: values[placeholder], style=style)
        components = rendered.split("/")
        assert (len(components), components[0]) == (5, "logs")
        assert not {"", ".", ".."} & set(components)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\\]", rendered)
        assert all(len(component.encode()) <= 2 * LONGEST_VALUE_BYTES + 2 for component in components)


@given(st.sampled_from(["logs-{namespace}-{label:app}", "{namespace}", "{namespace}{label:app}"]), VALUES, VALUES)
def test_index_name_is_always_valid(text: str, namespace: str, label: str) -> None:
    values = {"namespace": namespace, "label": label}
    index = Template.parse(text).render(lambda placeholder, _: values[placeholder], style="index")
    assert index == index.lower()
    assert not re.search(r'[\\/*?"<>| ,#:\x00-\x1f\x7f]', index)
    assert not index.startswith(("-", "_", "+", "."))  # with a dot it would be a system's index
    assert 1 <= len(index.encode()) <= 255


@given(st.text(st.characters(exclude_characters="{}"), max_size=400))
def test_index_name_is_valid_whatever_the_template_says(text: str) -> None:
    index = Template.parse(text).render(given_as("x"), style="index")
    assert re.fullmatch(r"[a-z0-9.][a-z0-9._-]{0,254}", index)
    assert index not in (".", "..")


def test_dot_of_the_templates_own_is_kept() -> None:
    assert Template.parse(".mine-{namespace}").render(given_as("shop"), style="index") == ".mine-shop"
    assert Template.parse("{label:x}").render(given_as(".security"), style="index") == "security"


def test_long_values_are_cut_and_stay_different() -> None:
    styles: tuple[Style, ...] = ("key", "path", "index")
    for style in styles:
        first, second = (confine("x" * 300 + end, style) for end in "ab")
        assert first != second
        assert first.startswith("x" * 100)
        assert len(first.encode()) <= LONGEST_VALUE_BYTES
        assert confine("x" * LONGEST_VALUE_BYTES, style) == "x" * LONGEST_VALUE_BYTES


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]{1,9}){0,3}", fullmatch=True))
@example("cart-7d9f-x2x")
def test_kubernetes_names_are_left_as_they_are(value: str) -> None:
    assert {confine(value, "key"), confine(value, "path"), confine(value, "index"), confine(value, "tag")} == {value}


def test_missing_value_is_unknown() -> None:
    styles: tuple[Style, ...] = ("key", "path", "index", "tag")
    for style in styles:
        assert Template.parse("a-{label:app}").render(given_as(None), style=style) == "a-unknown"
        assert Template.parse("a-{label:app}").render(given_as(""), style=style) == "a-unknown"


def test_id_stays_for_who_begins_the_object() -> None:
    template = Template.parse("{namespace}/{id}.gz")
    assert template.render(given_as("{id}"), style="key") == "{id}/{id}.gz"
    assert template.placeholders == {"namespace", "id"}


def test_tag_keeps_a_path_with_its_slashes() -> None:
    assert Template.parse("file.{path}").render(given_as("/var/log/a.log"), style="tag") == "file./var/log/a.log"


def test_time_is_the_records_own_in_utc() -> None:
    template = Template.parse("{time:%Y/%m/%d/%H}")
    for time in (b"2026-11-21T23:30:00.123456789Z", b"2026-11-22T00:30:00+01:00", b"2026-11-21T18:00:00-05:30"):
        assert template.render(given_as(None), style="key", time=time) == "2026/11/21/23"
    assert template.render(given_as(None), style="key", time=b"yesterday") == "unknown"


@given(
    st.lists(st.sampled_from([f"%{c}" for c in "YymbBdjaAuwVGUWFeHIpMS%"] + ["-", "/", "x"]), max_size=5),
    st.lists(st.sampled_from(["%Y", "%y", "%m", "%d", "%H", "%M", "%S", "%F"]), max_size=2),
    TIMES,
    TIMES,
)
def test_times_that_share_time_chars_render_equal(
    first: list[str], second: list[str], a: dt.datetime, b: dt.datetime
) -> None:
    text = "".join("{time:" + "".join(part) + "}" for part in (first, second) if part)
    template = Template.parse(text + "-end")
    shared = rfc3339(a)[: template.time_chars] + rfc3339(b)[template.time_chars :]
    if parse_time(shared) is None:  # the 31st of another month
        return
    render = [template.render(given_as(None), style="key", time=time) for time in (rfc3339(a), shared)]
    assert render[0] == render[1]


def test_template_without_time_has_no_time_chars() -> None:
    assert Template.parse("logs-{namespace}").time_chars == 0
    assert Template.parse("logs-{time:%Y}-{time:%H}").time_chars == 13


@given(st.binary() | st.from_regex(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", fullmatch=True))
@example(b"0001-01-01T00:00:00+01:00")
@example(b"9999-12-31T23:59:59-01:00")
@example(b"0000-00-00T00:00:00Z")
def test_any_bytes_are_a_time_or_none(time: bytes) -> None:
    parsed = parse_time(time)
    assert parsed is None or parsed.tzinfo is dt.UTC


@given(TIMES, st.timedeltas(dt.timedelta(hours=-23, minutes=-59), dt.timedelta(hours=23, minutes=59)))
def test_time_of_another_zone_is_the_same_moment(time: dt.datetime, offset: dt.timedelta) -> None:
    zone = dt.timezone(dt.timedelta(minutes=offset // dt.timedelta(minutes=1)))
    written = time.replace(tzinfo=zone, microsecond=0)
    try:
        expected = written.astimezone(dt.UTC)
    except OverflowError:
        return
    assert parse_time(written.isoformat().encode()) == expected


def test_needs_tell_what_must_be_known_first() -> None:
    assert Template.parse("{label:app}").needs_metadata
    assert Template.parse("{annotation:a/b}").needs_metadata
    assert not Template.parse("{namespace}-{field:x}").needs_metadata
    assert Template.parse("{field:x.y}").needs_record
    assert not Template.parse("{namespace}").needs_record


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{nmespace}", "there is no placeholder {nmespace} here; there are {namespace}, {pod}"),
        ("{}", "there is no placeholder {} here"),
        ("{label}", "{label} should read {label:...}"),
        ("{label:}", "{label:} should read {label:...}"),
        ("{namespace:x}", "{namespace:x} should read {namespace}"),
        ("{namespace:}", "{namespace:} should read {namespace}"),
        ("{time:%Q}", "{time:%Q}: %Q is not supported"),
        ("{time:%Y%}", "{time:%Y%}: % is not supported"),
        ("{namespace", '"{namespace" has a brace without its partner'),
        ("a}b", '"a}b" has a brace without its partner'),
    ],
)
def test_wrong_template_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Template.parse(text)


def test_placeholders_can_be_limited() -> None:
    with pytest.raises(ValueError, match=re.escape("there is no placeholder {id} here; there are {namespace}")):
        Template.parse("{id}", allowed=("namespace",))


@given(st.text())
def test_any_text_is_a_template_or_a_sentence(text: str) -> None:
    try:
        template = Template.parse(text)
    except ValueError:
        return
    assert str(template) == text
    if not set(template.placeholders) & {*PLAIN, "time"}:
        assert template.render(given_as(None), style="tag") == text
