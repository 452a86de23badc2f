import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.config.checks import can_both_match
from shipper.config.loader import load_text
from shipper.errors import ConfigError

PATTERNS = st.text(alphabet="ab*", max_size=6)
TEXTS = ["".join(chars) for n in range(8) for chars in itertools.product("ab", repeat=n)]


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern.replace("*", ".*"), text) is not None


@settings(deadline=None)
@given(PATTERNS, PATTERNS)
def test_two_patterns_can_both_match_what_a_search_finds(one: str, other: str) -> None:
    # of patterns with at most six characters, the shortest common text has at most twelve; with few letters, seven do
    found = any(matches(one, text) and matches(other, text) for text in TEXTS)
    assert can_both_match(one, other) or not found
    letters = len(one.replace("*", "")) + len(other.replace("*", ""))
    if letters <= 7:
        assert can_both_match(one, other) == found


def load_with_match(match: str, *, tag: str, filters: str = "[]") -> None:
    load_text(
        f"inputs: [{{type: tail, path: /a, tag: '{tag}'}}]\nfilters: {filters}\n"
        f"outputs: [{{type: stdout, match: '{match}'}}]\n",
        environ={},
    )


@pytest.mark.parametrize(
    ("match", "tag"),
    [
        ("kube.*", "kube.{namespace}.{pod}"),
        ("kube.shop.*.app", "kube.{namespace}.{pod}.{container}"),
        ("*", "x"),
        ("a.b.c", "{stem}"),  # a file may be called that
        ("a*z", "ab{stem}yz"),
    ],
)
def test_a_placeholder_is_any_text(match: str, tag: str) -> None:
    load_with_match(match, tag=tag)


@pytest.mark.parametrize(("match", "tag"), [("kub.*", "kube.{pod}"), ("kube", "kube.{pod}"), ("*.x", "kube.{pod}.y")])
def test_an_output_that_nothing_can_match_is_refused(match: str, tag: str) -> None:
    with pytest.raises(ConfigError, match="no tag can match"):
        load_with_match(match, tag=tag)


def test_tags_of_a_filter_that_sees_nothing_do_not_count() -> None:
    rules = "rules: [{add: 'archive.{pod}'}]"
    load_with_match("archive.*", tag="kube.{pod}", filters=f"[{{type: tag, match: kube.*, {rules}}}]")
    with pytest.raises(ConfigError, match="no tag can match"):
        load_with_match("archive.*", tag="kube.{pod}", filters=f"[{{type: tag, match: other.*, {rules}}}]")


def test_nothing_is_said_that_rests_on_an_unreadable_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load_with_match("archive.*", tag="kube.{nothing}")
    assert [problem.path for problem in caught.value.problems] == ["inputs[0].tag"]


@pytest.mark.parametrize(("limit", "enough"), [("24MiB", True), ("25165823B", False)])
def test_each_output_needs_two_batches_and_two_records(limit: str, enough: bool) -> None:
    text = (
        f"service: {{memory_limit: {limit}}}\ninputs: [{{type: tail, path: /a}}]\n"
        "outputs: [{type: stdout}, {type: file, path: a, batch: {max_bytes: 1MiB}}]\n"
    )
    if enough:
        assert load_text(text, environ={}).service.memory_limit == 24 * 2**20
    else:
        with pytest.raises(ConfigError, match="set it to 24MiB or more"):
            load_text(text, environ={})
