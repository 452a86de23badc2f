"""What is one JSON object, and what stands at its top: RFC 8259, for any text."""

import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shipper.parsers.json_object import find_objects, is_object, top_members, unescape
from shipper.parsers.utf8 import replace_invalid
from tests.parsers import oracle
from tests.parsers.strategies import BODIES

VALID_BODIES = BODIES.map(lambda body: bytes(replace_invalid([body])[0][0]))


@given(st.lists(VALID_BODIES, max_size=8))
@settings(max_examples=300, deadline=None)
@example([b'{"a":1}', b'{"a":2}\n{"b":1}'])
@example([b'{"a":', b"}"])
@example([b'{"a":1}\n0', b'{"a":1}'])
@example([b'{"a":[', b'{"b":1}', b"{}"])
@example([b'{"a":"', b'"}'])
@example([b"{}\n0\n{}", b"{"])
def test_every_body_is_judged_by_itself(bodies: list[bytes]) -> None:
    assert find_objects(bodies) == [oracle.as_object(body) is not None for body in bodies]


@given(VALID_BODIES)
@settings(max_examples=300, deadline=None)
def test_members_are_found_as_they_stand(body: bytes) -> None:
    expected = oracle.as_object(body)
    assert is_object(body) == (expected is not None)
    if expected is None:
        return
    members = top_members(body)
    assert [member.key for member in members] == [key for key, _ in expected]
    assert all(body[member.end : member.end + 1] == b'"' for member in members)
    for member, (_, value) in zip(members, expected, strict=True):
        is_container = isinstance(value, (list, oracle.Members))
        assert (member.scalar == b"") == is_container
        if not is_container:
            assert oracle.load(member.scalar.decode()) == value


def test_text_that_is_almost_an_object_is_judged_in_linear_time() -> None:
    body = b'{"' + b'\\"x' * 300_000
    assert not is_object(body)
    assert not is_object(b'{"a":' * 300_000)


@pytest.mark.parametrize("recursion_limit", [sys.getrecursionlimit(), 50_000])
def test_levels_are_counted_whatever_the_stack_allows(recursion_limit: int) -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}" + b" " * 3000

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(recursion_limit)
    try:
        assert find_objects([nested(1000), b"{}", nested(1001), nested(20_000)]) == [True, True, False, False]
    finally:
        sys.setrecursionlimit(before)


def test_pairs_of_escapes_are_one_character_and_lone_ones_stay() -> None:
    assert unescape(b'"\\ud83d\\ude00\\u0041\\n\\/"') == "😀A\n/"
    assert unescape(b'"\\ud83d"') == "\ud83d"
