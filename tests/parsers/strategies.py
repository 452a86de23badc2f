"""Bytes of log files, with everything that may stand in one."""

import json

from hypothesis import strategies as st

TIMES = st.sampled_from(
    [
        b"2026-11-21T10:00:00Z",
        b"2026-11-21T10:00:00.1Z",
        b"2026-11-21T10:00:00.100000000Z",
        b"2026-11-21T10:00:01.123456789Z",
        b"2026-11-21T10:00:01.123456789+00:00",
        b"2026-11-21T10:00:02.5-03:30",
    ]
)
WRONG_TIMES = st.sampled_from(
    [
        b"2026-11-21 10:00:00Z",
        b"2026-13-21T10:00:00Z",
        b"2026-11-00T10:00:00Z",
        b"2026-11-32T10:00:00Z",
        b"2026-11-21T24:00:00Z",
        b"2026-11-21T10:00:00.1234567890Z",
        b"",
    ]
)
STREAMS = st.sampled_from([b"stdout", b"stdout", b"stderr"])
TAGS = st.sampled_from([b"F", b"F", b"F", b"P", b"P", b"F:x", b"P:x:y"])

KEYS = st.sampled_from(
    [
        "a",
        "level",
        "message",
        "time",
        "timestamp",
        "stream",
        "streams",
        "stream_original",
        "stream_original_original",
        "kubernetes",
        "kubernetes.namespace_name",
        "kubernetes.x.y",
        "@timestamp",
        "@timestamp_original",
        "file",
        "file.path",
        "truncated",
        "parse_error",
        "_id",
        "cluster",
        'we"ird\\',
        "ä",
        "😀",
        "",
    ]
) | st.text(max_size=3)
NUMBERS = st.sampled_from(
    ["0", "-0", "1e5", "1E-400", "12345678901234567890123", "0.1234567890123456789012", "-1.50", "1" * 40]
)
TEXTS = st.sampled_from(
    [
        "2026-11-21T09:00:00.5Z",
        "2026-02-30T09:00:00Z",
        "2026-11-21T09:00:00+02:00",
        "x",
        "\ud800",
        "😀",
        "\x00\x1f",
        "é",
    ]
) | st.text(st.characters(), max_size=5)


def _spelled(text: str, how: int) -> str:
    """One of the spellings of a JSON string."""
    if how == 0:
        return json.dumps(text)
    if how == 1:
        return json.dumps(text, ensure_ascii=any(0xD800 <= ord(c) < 0xE000 for c in text))
    units = text.encode("utf-16-be", "surrogatepass")
    return '"' + "".join(f"\\u{int.from_bytes(units[i : i + 2]):04x}" for i in range(0, len(units), 2)) + '"'


STRINGS = st.builds(_spelled, TEXTS, st.integers(0, 2))
SPACE = st.sampled_from(["", "", "", " ", "\t", "\r "])


def _object(members: list[tuple[str, str]], space: str) -> str:
    return "{" + space + ("," + space).join(f"{key}{space}:{space}{value}" for key, value in members) + space + "}"


def _members(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    keys = st.builds(_spelled, KEYS, st.integers(0, 2))
    return st.builds(_object, st.lists(st.tuples(keys, values), max_size=5), SPACE)


SCALARS = STRINGS | NUMBERS | st.sampled_from(["true", "false", "null"])
VALUES: st.SearchStrategy[str] = st.recursive(
    SCALARS,
    lambda inner: _members(inner) | st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
    max_leaves=5,
)
OBJECTS = st.builds(lambda left, inner, right: left + inner + right, SPACE, _members(VALUES), SPACE).map(str.encode)
BROKEN_OBJECTS = st.builds(lambda body, cut: body[: cut % (len(body) + 1)], OBJECTS, st.integers(0)) | st.builds(
    lambda body, at, byte: body[: at % len(body)] + byte + body[at % len(body) :],
    OBJECTS,
    st.integers(0),
    st.sampled_from([b"\xff", b"\x00", b"{", b"}", b"1", b",", b'"', b"\\", b"\xe2\x82", b"]"]),
)
LITERALS = st.sampled_from(
    [
        b"",
        b" ",
        b"\r",
        b"{",
        b"{}",
        b" {} ",
        b"{}{}",
        b'{"a":1}}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":"\\x41"}',
        b'{"a":"\\ud800"}',
        b'{"\\ud83d\\ude00":1,"\xf0\x9f\x98\x80":2}',
        b'{"str\\u0065am":"x"}',
        b'{"stream":1,"stream":2}',
        b'{"a":1,"a":2}',
        b'{"a":"\x01"}',
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b"[1]",
        b"plain text",
        b'say "hi" \\ back',
        b"tab\tand\x00nul\x7f",
        b"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
        b"cut \xe2\x82",
        b"\xed\xa0\x80",
        b"trailing\r",
        b"2026-11-21T10:00:00Z stdout F not a header here",
    ]
)
ANY_BYTES = st.binary(max_size=12).map(lambda text: text.replace(b"\n", b""))
LONG = st.builds(
    lambda unit, n: unit * n,
    st.sampled_from([b"x", b"\xc3\xa9", b"\xe2\x82\xac", b"\x80", b" y"]),
    st.integers(20, 120),
)
BODIES = LITERALS | OBJECTS | BROKEN_OBJECTS | ANY_BYTES | LONG

CRI_LINES = st.builds(lambda *words: b" ".join(words), TIMES, STREAMS, TAGS, BODIES)
REGULAR_CRI_LINES = st.builds(
    lambda *words: b" ".join(words), TIMES, STREAMS, st.sampled_from([b"F", b"F", b"P"]), BODIES
)
ODD_CRI_LINES = (
    st.builds(lambda *words: b" ".join(words), TIMES, STREAMS, TAGS)  # no content, and no space for it
    | st.builds(lambda *words: b" ".join(words), WRONG_TIMES, STREAMS, TAGS, BODIES)
    | st.builds(lambda *words: b" ".join(words), TIMES, st.sampled_from([b"stdin", b"STDOUT"]), TAGS, BODIES)
    | st.builds(lambda *words: b" ".join(words), TIMES, STREAMS, st.sampled_from([b"X", b"", b"FF", b"x:F"]), BODIES)
    | BODIES
)


def _docker(log: str, stream: bytes, time: bytes, spelling: int, extra: str) -> bytes:
    line = f'{{"log":{_spelled(log, spelling)},"stream":"{stream.decode()}"{extra},"time":"{time.decode()}"}}'
    return line.encode("utf-8", "replace")


_LOGS = st.one_of(
    TEXTS,
    BODIES.map(lambda body: body.decode("utf-8", "replace")),
    st.sampled_from(["two\nlines", '{"a":\n1}', '{"a":1}\n{"b":2}', "{\n}", "\n"]),
)
DOCKER_LINES = st.builds(
    _docker,
    st.builds(lambda log, newline: log + newline, _LOGS, st.sampled_from(["\n", "\n", ""])),
    STREAMS,
    TIMES | WRONG_TIMES,
    st.integers(0, 2),
    st.sampled_from(["", ',"attrs":{"a":[1]}', ',"log":7', ',"stream":"stderr"']),
)
ODD_DOCKER_LINES = (
    DOCKER_LINES.map(lambda line: line[:-1]) | BODIES | DOCKER_LINES.map(lambda line: line.replace(b"x", b"\xff"))
)


def _file(lines: list[bytes], end: bytes) -> bytes:
    return b"\n".join(lines) + end


def files(*lines: st.SearchStrategy[bytes], max_lines: int = 14) -> st.SearchStrategy[bytes]:
    return st.builds(_file, st.lists(st.one_of(*lines), max_size=max_lines), st.sampled_from([b"\n", b"\n", b""]))


FILES: dict[str, st.SearchStrategy[bytes]] = {
    "cri": files(REGULAR_CRI_LINES) | files(CRI_LINES, CRI_LINES, ODD_CRI_LINES) | st.binary(max_size=60),
    "docker": files(DOCKER_LINES) | files(DOCKER_LINES, DOCKER_LINES, ODD_DOCKER_LINES) | st.binary(max_size=60),
    "json": files(OBJECTS) | files(OBJECTS, BODIES) | st.binary(max_size=60),
    "text": files(BODIES) | st.binary(max_size=60),
}


def _short_cri_line(stream: bytes, tag: bytes, n: int) -> bytes:
    return b"2026-11-21T10:00:00Z %b %b %b\n" % (stream, tag, b"x" * n)


INTERLEAVED = st.lists(
    st.builds(
        _short_cri_line,
        st.sampled_from([b"stdout", b"stderr"]),
        st.sampled_from([b"P", b"P", b"F"]),
        st.integers(0, 70),
    ),
    max_size=16,
).map(b"".join)
