"""Whatever stands in the file: a configuration, or a ConfigError with at least one problem. Never another exception."""

from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.config.loader import load_text
from shipper.config.model import Config
from shipper.config.show import dump
from shipper.errors import ConfigError
from tests.config.test_problems import CASES
from tests.config.test_show import FULL

_SPECIAL = " \n\t:-[]{}&*!|>'\"%@`,?#$\\/.~=<>0123456789abtfnulxU_\x00\x85\u2028\ud800é"
ALPHABET = st.sampled_from(_SPECIAL) | st.characters()
WORDS = sorted({word for text, _ in CASES.values() for word in text.split() if len(word) < 100} | {"${A}", "*a", "&a"})
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def load_or_complain(text: str) -> None:
    problems = []
    try:
        config = load_text(text, environ={"A": "1", "B": "off"})
    except ConfigError as exc:
        problems = exc.problems
    else:
        assert isinstance(config, Config)
        assert dump(config)
    assert all(problem.line >= 1 and problem.column >= 1 and problem.sentence for problem in problems)


@RELAXED
@given(st.text(ALPHABET, max_size=200))
def test_any_text(text: str) -> None:
    load_or_complain(text)


@RELAXED
@given(st.lists(st.sampled_from([*WORDS, " ", "\n", "\n  ", "\n- ", ": ", "{", "}", "[", "]"]), max_size=40))
def test_any_words_of_a_configuration(words: list[str]) -> None:
    load_or_complain(" ".join(words))


@RELAXED
@given(st.data())
def test_any_text_cut_into_a_right_configuration(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 40)))
    load_or_complain(FULL[:start] + data.draw(st.text(ALPHABET, max_size=8) | st.sampled_from(WORDS)) + FULL[end:])


@RELAXED
@given(st.data())
def test_any_value_at_any_key(data: st.DataObject) -> None:
    document = yaml.safe_load(FULL)
    spot: Any = document
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(spot[key], dict | list) or not spot[key] or data.draw(st.booleans()):
            break
        spot = spot[key]
    spot[key] = data.draw(VALUES)
    load_or_complain(yaml.safe_dump(document, allow_unicode=True))


def test_aliases_that_grow_without_end() -> None:
    lines = ["  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    load_or_complain("service:\n fields:\n" + "\n".join(lines) + "\n")


def test_an_alias_of_itself() -> None:
    load_or_complain("service: {fields: {a: &a [*a]}}\nfilters: [{type: drop, when: &w [*w]}]\noutputs: &o [*o]\n")


def test_numbers_without_end() -> None:
    digits = "9" * 5000
    load_or_complain(f"service: {{memory_limit: {digits}MiB, history: {digits}d, http: {{listen: ':{digits}'}}}}\n")
    load_or_complain(f"filters: [{{type: drop, when: {{pod: , matches: 'a{{{digits}}}'}}}}]\n")
    load_or_complain(f"filters: [{{type: drop, when: {{pod: , matches: '{'(' * 5000}'}}}}]\n")
