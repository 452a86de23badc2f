"""`encode` against the oracle: the same documents, ids, positions and counts for any bytes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shipper import native
from shipper.body import Body, new_body, view_of
from shipper.document import make_envelope, reserved_keys
from shipper.encode import encode
from shipper.frame import Frame, Target
from shipper.parsers import FORMATS, Format, State, Summary
from shipper.parsers.json_object import is_object
from shipper.record import Source
from tests.parsers import oracle
from tests.parsers.strategies import FILES
from tests.steps import counted_steps

FIRST_TIME, READ_TIME = b"2026-01-01T00:00:00Z", b"2026-12-31T00:00:00Z"
POD = Source("pods", "/var/log/pods/shop_cart_u-1/app/0.log", "shop", "cart", "u-1", "app", 0)
FILE = Source("files", "/var/log/app 1.log")
IDENTITY = {"namespace_name": "shop", "pod_name": "cart", "pod_id": "u-1", "container_name": "app", "host": "node-1"}
STATICS: list[dict[str, Any]] = [{}, {"cluster": "prod", "a": [1, {"b": None}]}, {'we"ird\\': 1, "ä": "😀"}]
BULK, ARCHIVE, PLAIN = (
    (b'{"create":{"_id":"', b'"}}\n{'),
    (b'{"_id":"', b'",'),
    (None, b"{"),
)
FORMS = {"bulk": BULK, "archive": ARCHIVE, "plain": PLAIN}

_make_body: Callable[[], Body] = bytearray


@pytest.fixture(scope="module", autouse=True, params=["Python", "native"])
def twin(request: pytest.FixtureRequest) -> None:
    """Everything here holds for both; the native one appends to its own bodies alone."""
    global _make_body  # noqa: PLW0603
    if request.param == "native" and native.MODULE is None:
        pytest.skip(f"the native encoder is not used: {native.WHY_NOT}")
    _make_body = new_body if request.param == "native" else bytearray


def run(
    text: bytes, framing: Format, *, form: str = "bulk", static: dict[str, Any] | None = None, **frame: Any
) -> tuple[Summary, list[str]]:
    """-> what `encode` says, and the lines that it wrote."""
    source = POD if framing in ("cri", "docker") else FILE
    static = static or {}
    envelope = make_envelope(source, base="b", frame=FORMS[form], document={"host": "node-1"}, static=static)
    reserved = reserved_keys(source, static, has_id=form != "plain")
    into = _make_body()
    into += b"before\n"
    said = encode(
        text,
        0,
        Frame(framing, reserved=reserved, **frame),
        [Target(envelope, into)],
        final=True,
        state=State(FIRST_TIME),
        read_time=READ_TIME,
    )
    assert said is not None
    head, *lines, end = bytes(view_of(into)).decode().split("\n")
    assert (head, end) == ("before", "")
    return said, lines


def document_of(line: str, framing: Format = "cri", **frame: Any) -> dict[str, Any]:
    """Of one CRI line with this content."""
    _, lines = run(line.encode(), framing, form="plain", **frame)
    assert len(lines) == 1
    return dict(oracle.load(lines[0]))


def cri(content: str) -> str:
    return f"2026-11-21T10:00:00.1Z stdout F {content}\n"


def expected_document(
    record: oracle.Record, framing: Format, form: str, static: dict[str, Any], *, merge: bool, keep_message: bool
) -> list[tuple[str, Any]]:
    is_container = framing in ("cri", "docker")
    id_ = [("_id", f"b-{record.begin:x}-{record.end:x}")] if form == "archive" else []
    file = ("file", oracle.Members((("path", FILE.path), ("offset", oracle.Number(record.begin)))))
    kubernetes = ("kubernetes", oracle.Members(IDENTITY.items()))
    around = [("stream", record.stream), kubernetes] if is_container else [file]
    around += list(oracle.load(json.dumps(static)))
    reserved = {"@timestamp", *(name for name, _ in around), *(["_id"] if form != "plain" else [])}
    told = oracle.content(record, framing, merge=merge, keep_message=keep_message, reserved=reserved)
    return [*id_, ("@timestamp", record.time.decode()), *around, *told]


@pytest.mark.parametrize("framing", FORMATS)
@given(
    data=st.data(),
    form=st.sampled_from(sorted(FORMS)),
    static=st.sampled_from(STATICS),
    merge=st.sampled_from([True, True, False]),
    keep_message=st.booleans(),
    limit=st.sampled_from([64, 1 << 20]),
)
@settings(max_examples=250, deadline=None)
def test_documents_are_those_of_the_oracle(
    framing: Format,
    data: st.DataObject,
    form: str,
    static: dict[str, Any],
    *,
    merge: bool,
    keep_message: bool,
    limit: int,
) -> None:
    text = data.draw(FILES[framing])
    whole = oracle.read_file(text, framing, limit=limit, first_time=FIRST_TIME, read_time=READ_TIME)
    said, lines = run(
        text, framing, form=form, static=static, merge=merge, keep_message=keep_message and merge, limit=limit
    )
    if form == "bulk":
        actions, lines = lines[0::2], lines[1::2]
        assert actions == [f'{{"create":{{"_id":"b-{r.begin:x}-{r.end:x}"}}}}' for r in whole.records]
    documents = [list(oracle.load(line)) for line in lines]
    assert documents == [
        expected_document(r, framing, form, static, merge=merge, keep_message=keep_message and merge)
        for r in whole.records
    ]
    assert (said.records, said.consumed) == (len(whole.records), len(text))
    assert said.source_bytes == sum(record.size for record in whole.records)
    assert said.invalid_utf8 == sum(not is_utf8(record.body) for record in whole.records)


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])))
@example('\x00\x1f\x7f\x80\u2028\\"')
@example('{"a":1')
def test_text_arrives_as_it_was_written(text: str) -> None:
    assert document_of(cri(text), merge=False)["message"] == text


@pytest.mark.parametrize(
    "number", ["123456789012345678901234567890", "0.1000000000000000055511151231257827", "-0.0", "1E+400", "1" * 5000]
)
def test_numbers_arrive_to_the_last_digit(number: str) -> None:
    _, (line,) = run(cri(f'{{"n":{number}}}').encode(), "cri", form="plain")
    assert line.endswith(f'"n":{number}}}')


@pytest.mark.parametrize("opening", ['{"a":', '{"a":[', '{"a":{"b":1,"c":'])
def test_a_thousand_levels_are_json_and_one_more_is_text(opening: str) -> None:
    def nested(levels: int) -> str:
        left = opening + "[" * (levels - opening.count("{") - opening.count("["))
        brackets = [c for c in left if c in "{["]
        return left + "".join("}" if c == "{" else "]" for c in reversed(brackets))

    assert "a" in document_of(cri(nested(1000)))
    assert document_of(cri(nested(1001)))["message"] == nested(1001)
    padding = " " * 3000  # longer than what a whole chunk is asked for at once
    assert "a" in document_of(cri(nested(1000) + padding))
    assert document_of(cri(nested(1001) + padding))["message"] == nested(1001) + padding


@pytest.mark.parametrize(
    ("message", "members"),
    [
        ('{"stream":1}', {"stream_original": "1"}),
        ('{"str\\u0065am":1}', {"stream_original": "1"}),
        ('{"stream":1,"stream_original":2}', {"stream_original_original": "1", "stream_original": "2"}),
        ('{"kubernetes.pod_name":"spoof"}', {"kubernetes.pod_name_original": "spoof"}),
        ('{"kubernetes_pod":1,"streams":2}', {"kubernetes_pod": "1", "streams": "2"}),
        ('{"a":{"stream":1}}', {"a": (("stream", "1"),)}),
        ('{"truncated":1,"parse_error":2,"file":3}', {"truncated": "1", "parse_error": "2", "file": "3"}),
        ("{}", {}),
        (" \t{ } \r", {}),
    ],
)
def test_ours_win_and_the_applications_are_kept(message: str, members: dict[str, Any]) -> None:
    document = document_of(cri(message))
    own = {key: value for key, value in document.items() if key not in ("@timestamp", "stream", "kubernetes")}
    assert own == members
    assert document["stream"] == "stdout"


def test_equal_keys_pass_and_stay_equal_when_they_are_renamed() -> None:
    _, (line,) = run(cri('{"a":1,"stream":2,"a":3,"stream":4}').encode(), "cri", form="plain")
    assert line.endswith(',"a":1,"stream_original":2,"a":3,"stream_original":4}')


def test_kept_message_is_the_line_as_it_was_and_wins() -> None:
    document = document_of(cri(' {"message":"mine","a":1}'), keep_message=True)
    assert document["message"] == ' {"message":"mine","a":1}'
    assert (document["message_original"], document["a"]) == ("mine", "1")


def test_line_that_is_no_cri_is_kept_whole_even_if_it_is_json() -> None:
    document = document_of('{"a":1}\n')
    assert (document["message"], document["parse_error"]) == ('{"a":1}', "cri")
    assert document["@timestamp"] == FIRST_TIME.decode()


def test_lone_surrogates_pass() -> None:
    _, (line,) = run(cri('{"a":"\\ud800"}').encode(), "cri", form="plain")
    assert line.endswith(',"a":"\\ud800"}')


def test_cut_record_is_marked_and_the_mark_wins_over_the_applications_key() -> None:
    content = '{"truncated":1,"a":"' + "x" * 60 + '"}'
    _, lines = run(cri(content + "rest").encode(), "cri", form="plain", limit=len(content))
    first, rest = (dict(oracle.load(line)) for line in lines)
    assert (first["truncated"], first["truncated_original"]) == (True, "1")
    assert (rest["truncated"], rest["message"]) == (True, "rest")


def test_docker_message_with_newlines_within_stays_one_line() -> None:
    log = json.dumps('{"a":\n1,\n\n"b":"x"}\n')
    line = f'{{"log":{log},"stream":"stderr","time":"2026-11-21T10:00:00Z"}}\n'
    _, lines = run(line.encode(), "docker", form="plain")
    assert len(lines) == 1
    document = dict(oracle.load(lines[0]))
    assert (document["a"], document["b"], document["stream"]) == ("1", "x", "stderr")


def test_nothing_is_written_for_what_is_not_complete() -> None:
    into = bytearray(b"x")
    envelope = make_envelope(POD, base="b", frame=PLAIN, document={}, static={})
    said = encode(b"2026-11-21T10:00:00Z stdout F half", 7, Frame("cri"), [Target(envelope, into)])
    assert said is not None
    assert (said.records, said.consumed, bytes(into)) == (0, 7, b"x")


MIB = 1 << 20
MEMBERS = b",".join(b'"k%05d":%d' % (i, i) for i in range(60_000))
DEEP = b"[" * 990 + b"]" * 990
MONSTERS = {
    "zeros": b"\x00" * MIB,
    "colours": b"\x1b[0m" * (MIB // 4),
    "invalid": b"\xff" * MIB,
    "quotes": b'"\\' * (MIB // 2),
    "brackets": b"[{" * (MIB // 2),
    "small lists": b'{"a":[' + b",".join([b"[]"] * (MIB // 3)) + b"]}",
    "deep lists": b'{"a":[' + b",".join([DEEP] * 500) + b"]}",
    "half an object": b"{" + MEMBERS,
    "a key of ours at its end": b"{" + MEMBERS + b',"stream":1}',
    "keys of ours alone": b"{" + b",".join([b'"kubernetes.x":1'] * 60_000) + b"}",
    "a lone surrogate": b"{" + MEMBERS + b',"a":"\\ud800"}',
    "surrogates alone": b'{"a":"' + b"\\ud800" * (MIB // 6) + b'"}',
    "white space": b"{" + b" " * MIB + b"}",
}


@pytest.mark.parametrize("kind", MONSTERS)
def test_a_megabyte_of_anything_keeps_the_loop_for_a_fraction_of_a_second(kind: str) -> None:
    """Member by member, or bracket by bracket, they would be steps by the hundred thousand; so are keys of ours."""
    text = cri("").encode().replace(b"\n", MONSTERS[kind] + b"\n")
    with counted_steps() as steps:
        said, lines = run(text, "cri", form="plain", limit=2 * MIB)
    assert steps.count < (30 * 60_000 if "of ours" in kind and _make_body is bytearray else 5_000)
    assert said.records == len(lines) == 1
    assert ('"message":' in lines[0]) == (not is_object(MONSTERS[kind]))
