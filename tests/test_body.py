"""Bodies keep their memory, and do not change under whoever reads them: both kinds."""

from collections.abc import Callable

import pytest

from shipper import native
from shipper.body import Body, PlainBody, new_body, recycle, view_of

MakeBody = Callable[[], Body]


@pytest.fixture(params=["native", "plain"])
def make_body(request: pytest.FixtureRequest) -> MakeBody:
    if request.param == "native" and native.MODULE is None:
        pytest.skip(f"the native encoder is not used: {native.WHY_NOT}")
    return new_body if request.param == "native" else PlainBody


def test_a_body_grows_and_is_cut_off_at_its_end_alone(make_body: MakeBody) -> None:
    body = make_body()
    body += b"abc"
    body += b"def"
    del body[4:]
    assert (len(body), bytes(view_of(body))) == (4, b"abcd")
    with pytest.raises(IndexError):
        del body[:2]
    with pytest.raises(IndexError):
        del body[::2]
    del body[9:]
    assert len(body) == 4
    del body[:]
    assert not len(body)


def test_a_body_does_not_change_while_somebody_looks_at_it(make_body: MakeBody) -> None:
    body = make_body()
    body += b"abc"
    with view_of(body) as view:
        with pytest.raises(BufferError):
            body += b"d"
        with pytest.raises(BufferError):
            del body[1:]
        assert not recycle(body)
        assert bytes(view) == b"abc"
        assert view.readonly
    body += b"d"
    assert bytes(view_of(body)) == b"abcd"


def test_memory_of_an_emptied_body_stays(make_body: MakeBody) -> None:
    body = make_body()
    body += bytes(1 << 20)
    assert recycle(body)
    assert not len(body)
    assert body.capacity >= 1 << 20  # type: ignore[attr-defined]
    body += b"abc"
    assert bytes(view_of(body)) == b"abc"


def test_more_memory_than_was_needed_is_given_back(make_body: MakeBody) -> None:
    body = make_body()
    body += bytes(1 << 20)
    del body[1000:]
    assert not recycle(body)


def test_what_is_used_once_may_be_a_bytearray() -> None:
    body = bytearray(b"abc")
    assert bytes(view_of(body)) == b"abc"
    assert not recycle(body)
