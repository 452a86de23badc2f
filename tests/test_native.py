"""Both twins of `encode` give the same bytes and summaries for any chunk; ordinary ones the native twin does itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shipper import native
from shipper.body import Body, new_body, view_of
from shipper.document import make_envelope, reserved_keys
from shipper.encode import encode, encode_natively, native_form
from shipper.frame import Frame, Target
from shipper.parsers import Format, State, Summary
from shipper.record import Envelope, Source
from tests.parsers.strategies import BODIES, FILES, INTERLEAVED, OBJECTS
from tests.test_encode import FILE, FORMS, POD, STATICS

ROOT = Path(__file__).parent.parent
TIME = "2026-11-21T10:00:00.1Z"

if native.MODULE is None and not shutil.which("cargo"):
    pytest.skip(f"the native encoder is not used: {native.WHY_NOT}", allow_module_level=True)


def test_native_module_is_here_where_cargo_is() -> None:
    assert native.MODULE is not None, f"{native.WHY_NOT}; run `make` again"


def envelope_of(form: str, *, source: Source = POD, static: dict[str, Any] | None = None) -> Envelope:
    return make_envelope(source, base="b", frame=FORMS[form], document={"host": "node-1"}, static=static or {})


def plain(summary: Summary | None) -> dict[str, Any] | None:
    """As values that compare."""
    if summary is None:
        return None
    return msgspec.structs.asdict(msgspec.structs.replace(summary, places=())) | {"places": list(summary.places)}


def both_ways(
    chunk: bytes, frame: Frame, targets: list[Target], *, offset: int, options: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """What came of the native way (in part or not at all where it declines), and of the Python way."""
    found = []
    for make_body in (new_body, bytearray):
        bodies: list[Body] = []
        for _ in targets:
            body: Body = make_body()
            body += b"before\n"
            bodies.append(body)
        mine = [target._replace(into=body) for target, body in zip(targets, bodies, strict=True)]
        said = encode(chunk, offset, frame, mine, **options)
        found.append([plain(said), [bytes(view_of(body)) for body in bodies]])
    return found[0], found[1]


CRI_CHUNKS = FILES["cri"] | INTERLEAVED | st.tuples(FILES["cri"], INTERLEAVED).map(b"".join)


@given(
    chunk=CRI_CHUNKS,
    forms=st.lists(st.sampled_from(sorted(FORMS)), min_size=1, max_size=2),
    prefixes=st.lists(st.sampled_from([b"", b"", b"2026-11-21T10", b"2026-11-21T10:00:01"]), min_size=2, max_size=2),
    source=st.sampled_from([POD, POD, FILE]),
    static=st.sampled_from([*STATICS, {"": 1}]),
    merge=st.sampled_from([True, True, False]),
    keep_message=st.booleans(),
    limit=st.sampled_from([40, 64, 100, 1 << 20]),
    offset=st.sampled_from([0, 7, 255, 1 << 33]),
    final=st.booleans(),
    hold=st.sampled_from([True, True, True, False]),
    state=st.sampled_from([State(), State(b"2026-01-01T00:00:00Z"), State(b"x", b"stdout P"), State(cut=(b"stdout",))]),
    skip=st.sampled_from([(), (), (), ((50, 100),)]),
    known=st.integers(0, 300),
)
@example(
    chunk=b"", forms=["bulk"], prefixes=[b"", b""], source=POD, static={}, merge=True, keep_message=False, limit=64,
    offset=0, final=True, hold=True, state=State(), skip=(), known=0,
)  # fmt: skip
@settings(max_examples=1500, deadline=None)
def test_both_twins_give_the_same_bytes_and_the_same_summary(
    *,
    chunk: bytes,
    forms: list[str],
    prefixes: list[bytes],
    source: Source,
    static: dict[str, Any],
    merge: bool,
    keep_message: bool,
    limit: int,
    offset: int,
    final: bool,
    hold: bool,
    state: State,
    skip: tuple[tuple[int, int], ...],
    known: int,
) -> None:
    reserved = reserved_keys(source, static, has_id="plain" not in forms)
    frame = Frame("cri", merge, keep_message and merge, reserved, limit)
    targets = [
        Target(envelope_of(form, source=source, static=static), bytearray(), prefix)
        for form, prefix in zip(forms, prefixes, strict=False)
    ]
    skip = tuple((offset + begin, offset + end) for begin, end in skip)
    options = {"final": final, "hold": hold, "state": state, "skip": skip, "known": offset + known}
    natively, in_python = both_ways(chunk, frame, targets, offset=offset, options=options)
    assert natively == in_python


@given(bodies=st.lists(BODIES | OBJECTS, min_size=1, max_size=30), merge=st.booleans(), keep_message=st.booleans())
@settings(max_examples=500, deadline=None)
def test_both_twins_treat_messages_alike(bodies: list[bytes], *, merge: bool, keep_message: bool) -> None:
    chunk = b"".join(cri(body) for body in bodies)
    frame = Frame("cri", merge, keep_message, frozenset(("@timestamp", "stream", "kubernetes", "ä", "a")))
    natively, in_python = both_ways(
        chunk, frame, [Target(envelope_of("bulk"), bytearray())], offset=0, options={"final": True}
    )
    assert natively == in_python


@given(
    chunk=CRI_CHUNKS | st.lists(BODIES, min_size=1, max_size=3).map(lambda bodies: b"".join(map(cri, bodies))),
    form=st.sampled_from(sorted(FORMS)),
    prefix=st.sampled_from([b"", b"", b"2026-11-21T10", b"2026-11-21T10:00:01"]),
    limit=st.sampled_from([64, 1 << 20]),
    offset=st.sampled_from([0, 255, 1 << 33]),
    before=st.sampled_from([b"", b"what stands there\n"]),
)
@example(chunk=b"", form="bulk", prefix=b"", limit=64, offset=7, before=b"")
@settings(max_examples=500, deadline=None)
def test_what_is_appended_whole_is_what_is_appended_anyway(
    *, chunk: bytes, form: str, prefix: bytes, limit: int, offset: int, before: bytes
) -> None:
    if native.MODULE is None:
        return
    writer = native_form(Frame("cri", reserved=reserved_keys(POD, {}, has_id=True), limit=limit), envelope_of(form))
    whole, usual = (native.MODULE.Body() for _ in range(2))
    whole += before
    usual += before
    said = writer.append_whole(chunk, offset, whole, b"2026-11-21T09:00:00Z", prefix)
    told = writer.append(chunk, offset, usual, b"2026-11-21T09:00:00Z", False, 0, prefix)
    if said is None:
        assert bytes(view_of(whole)) == before
        return
    records, last_time, stop = said
    assert told == (records, len(chunk), offset + len(chunk), last_time, records, [], None, 0, 0, 0)
    assert bytes(view_of(whole)) == bytes(view_of(usual))
    assert stop == len(usual)


# -- by name ----------------------------------------------------------------------------------------------------------


def cri(body: bytes | str, *, stream: str = "stdout", tag: str = "F", time: str = TIME) -> bytes:
    return f"{time} {stream} {tag} ".encode() + (body.encode() if isinstance(body, str) else body) + b"\n"


def is_done_natively(chunk: bytes, framing: Format = "cri", *, form: str = "bulk", **options: Any) -> bool:
    given = {"final": False, "state": State(b"2026-01-01T00:00:00Z"), "known": 0, **options}
    target = Target(envelope_of(form), new_body())
    said = encode_natively(chunk, 0, Frame(framing), [target], **given)
    assert said is not None or not len(target.into)
    return said is not None


ORDINARY = {
    "text": cri("hello") * 3,
    "objects": cri('{"a":1}') + cri('{"b":{"c":[1,2]}}'),
    "both, on both streams": cri('{"a":1}') + cri("oops", stream="stderr"),
    "parts": cri("be", tag="P") + cri("gun"),
    "interleaved parts": cri("a", tag="P") + cri("b", tag="P", stream="stderr") + cri("c") + cri("d", stream="stderr"),
    "an open record": cri("whole") + cri("begun", tag="P") + cri("behind", stream="stderr"),
    "a half-written line": cri("whole") + b"2026-11-21T10",
    "keys that are ours": cri('{"stream":1,"@timestamp":2,"str\\u0065am":3,"kubernetes.x":4}'),
    "what is no CRI line": b"kernel: oops\n\n" + cri("x"),
    "invalid UTF-8": cri(b"caf\xe9") + cri(b'{"a":"\xff"}'),
    "further tags, CRI-O's times": cri("x", tag="F:a:b", time="2026-11-21T10:00:00.123456789+01:00"),
    "nothing": b"",
    "deep": cri('{"a":' + "[" * 1200 + "]" * 1200 + "}"),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_chunks_are_not_declined(kind: str) -> None:
    assert is_done_natively(ORDINARY[kind])


def test_documents_of_a_second_output_are_copied_from_the_first() -> None:
    frame, envelopes = Frame("cri"), [envelope_of(form) for form in ("bulk", "archive")]
    bulk, archive = (native_form(frame, envelope) for envelope in envelopes)
    bodies = [new_body(), new_body()]
    target = Target(envelopes[0], bodies[0])
    assert encode(cri('{"a":1}') + cri("text", stream="stderr"), 0, frame, [target]) is not None
    assert archive.copy(bulk, bodies[0], 0, bodies[1], TIME[:13].encode())
    assert bytes(view_of(bodies[1])).count(b'{"_id":"b-0-') == 1
    assert not archive.copy(bulk, bodies[0], 0, bodies[1], b"2027")
    assert not archive.copy(bulk, bodies[0], 0, bodies[0], b"")
    assert bytes(view_of(bodies[1])).count(b"\n") == 2


def test_an_ordinary_chunk_is_appended_whole() -> None:
    assert native.MODULE is not None
    body = native.MODULE.Body()
    frame = Frame("cri", reserved=reserved_keys(POD, {}, has_id=True))
    chunk = cri("hello") + cri('{"a":1}')
    assert native_form(frame, envelope_of("bulk")).append_whole(chunk, 7, body, b"", b"") == (
        2,
        TIME.encode(),
        len(body),
    )
    assert native_form(frame, envelope_of("bulk")).append_whole(cri("x", tag="P"), 7, body, b"", b"") is None


def test_the_end_of_a_file_is_not_declined() -> None:
    assert is_done_natively(cri("whole") + cri("no newline")[:-1], final=True)


def test_too_long_lines_are_left_to_the_python_twin() -> None:
    assert not is_done_natively(cri("x" * (1 << 20)))


def test_records_of_two_hours_are_left_to_the_record_lane() -> None:
    chunk = cri("a", time="2026-11-21T10:59:59Z") + cri("b", time="2026-11-21T11:00:00Z")
    body = new_body()
    assert encode(chunk, 0, Frame("cri"), [Target(envelope_of("bulk"), body, b"2026-11-21T10")]) is None
    assert not len(body)


def test_a_chunk_is_not_written_into_a_body_that_somebody_looks_at() -> None:
    body = new_body()
    with view_of(body), pytest.raises(BufferError):
        encode(cri("x"), 0, Frame("cri"), [Target(envelope_of("bulk"), body)])


# -- the choice -------------------------------------------------------------------------------------------------------


def version(**environment: str) -> str:
    command = [sys.executable, "-m", "shipper", "--version"]
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return run.stdout


def test_python_runs_where_it_is_asked_for() -> None:
    assert "(encoder: native)" in version()
    assert "(encoder: Python)" in version(SHIPPER_NATIVE="0")


def test_a_module_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_API", -1)
    assert native._load() == (None, "it was built from other sources: install shipper again")
