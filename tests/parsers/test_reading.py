"""Open records, half-written lines and too long ones: what is given out when, and what is remembered."""

from typing import Any

import pytest

from shipper.parsers import Format, Records, State, detect_format, parse
from shipper.parsers.join import MOST_AHEAD, longest_span

TIME = b"2026-11-21T10:00:00.1Z"
TRUNCATED = b',"truncated":true'


def line(content: bytes, stream: bytes = b"stdout", tag: bytes = b"F", time: bytes = TIME) -> bytes:
    return b" ".join([time, stream, tag, content]) + b"\n"


def go_on(data: bytes, before: Records, **options: Any) -> Records:
    """Reads on where `before` has ended."""
    rest = data[before.consumed :]
    return parse(rest, before.consumed, "cri", state=before.state, skip=before.ahead, **options)


OPEN = line(b"begun ", tag=b"P")
ERROR = line(b"why it hangs", b"stderr")
END = line(b"and ended")


def test_open_record_holds_back_those_behind_it() -> None:
    records = parse(line(b"first") + OPEN + ERROR, 0, "cri")
    assert list(records.bodies) == [b"first"]
    assert (records.consumed, records.ahead) == (len(line(b"first")), ())


def test_records_behind_an_open_one_are_given_out_once_when_nobody_waits() -> None:
    data = OPEN + ERROR + END
    early = parse(OPEN + ERROR, 0, "cri", hold=False)
    assert list(early.bodies) == [b"why it hangs"]
    assert (early.consumed, early.ahead) == (0, ((len(OPEN), len(OPEN + ERROR)),))
    again = go_on(OPEN + ERROR, early, hold=False)
    assert (len(again), again.ahead) == (0, early.ahead)
    late = go_on(data, early)
    assert list(late.bodies) == [b"begun and ended"]
    assert (late.begins[0], late.ends[0], late.sizes[0]) == (0, len(data), len(OPEN + END))
    assert (late.consumed, late.ahead) == (len(data), ())


def test_position_within_a_range_that_was_given_out_keeps_the_rest_of_it() -> None:
    n = len(ERROR)
    records = parse(ERROR, 0, "cri", skip=((0, 2 * n), (3 * n, 4 * n)))
    assert (len(records), records.consumed, records.ahead) == (0, n, ((n, 2 * n), (3 * n, 4 * n)))


def test_end_of_the_file_ends_an_open_record_unmarked() -> None:
    records = parse(OPEN + ERROR + b"2026-11-21T10:00:01Z stdout P half", 0, "cri", final=True)
    assert list(records.bodies) == [b"why it hangs", b"begun half"]
    assert records.marks == {}


def test_half_written_line_waits_for_its_newline() -> None:
    data = line(b"whole")
    for end in range(len(data)):
        assert parse(data[:end], 0, "cri").consumed == 0
    assert list(parse(data, 0, "cri").bodies) == [b"whole"]


def test_line_without_frame_ends_no_open_record_and_takes_the_time_before_it() -> None:
    records = parse(OPEN + b"kernel: oops\n" + END, 0, "cri")
    assert list(records.bodies) == [b"kernel: oops", b"begun and ended"]
    assert (records.times[0], records.marks) == (TIME, {0: b',"parse_error":"cri"'})


def test_time_before_is_known_to_the_next_read() -> None:
    data = line(b"x") + b"no frame\n"
    first = parse(line(b"x"), 0, "cri", state=State(b"2000-01-01T00:00:00Z"))
    assert list(go_on(data, first).times) == [TIME]


@pytest.mark.parametrize("time", [b"2026-11-21T10:00:00Z", b"2026-11-21T10:00:00.123456789+00:00"])
@pytest.mark.parametrize("tag", [b"F", b"F:some:tags"])
def test_record_of_just_the_limit_is_whole_and_a_longer_one_is_cut_there(time: bytes, tag: bytes) -> None:
    whole = parse(line(b"x" * 100, time=time, tag=tag), 0, "cri", limit=100)
    assert ([len(body) for body in whole.bodies], whole.marks) == ([100], {})
    cut = parse(line(b"x" * 250, time=time, tag=tag), 0, "cri", limit=100)
    assert [len(body) for body in cut.bodies] == [100, 100, 50]
    assert cut.marks == dict.fromkeys(range(3), TRUNCATED)
    assert list(cut.ends[:-1]) == list(cut.begins[1:])


def test_too_long_line_is_given_out_piece_by_piece_while_it_grows() -> None:
    data = line(b"x" * 250)
    whole = parse(data, 0, "cri", limit=100)
    begun = parse(data[:140], 0, "cri", limit=100)
    assert list(begun.bodies) == list(whole.bodies)[:1]
    assert begun.consumed == whole.ends[0]
    rest = go_on(data, begun, limit=100)
    assert [*begun.ends, *rest.ends] == list(whole.ends)
    assert list(rest.times) == [TIME, TIME]


def test_what_follows_a_too_long_part_is_marked_too() -> None:
    data = line(b"x" * 250, tag=b"P") + line(b"end") + line(b"next")
    records = parse(data, 0, "cri", limit=100)
    assert [body[:5] for body in records.bodies] == [b"xxxxx", b"xxxxx", b"xxxxx", b"next"]
    assert records.bodies[2].endswith(b"xend")
    assert sorted(records.marks) == [0, 1, 2]


def test_parts_are_cut_at_their_borders() -> None:
    data = b"".join(line(bytes([c]) * 40, tag=b"P") for c in b"abcde") + line(b"end")
    records = parse(data, 0, "cri", limit=100)
    assert [bytes(sorted(set(body))) for body in records.bodies] == [b"ab", b"cd", b"den"]
    assert sorted(records.marks) == [0, 1, 2]


def test_no_character_is_cut() -> None:
    content = "é€😀".encode() * 50
    records = parse(line(content), 0, "cri", limit=64)
    assert b"".join(records.bodies) == content
    for body in records.bodies:
        body.decode()
        assert len(body) <= 64


def test_part_that_never_ends_is_cut_when_the_other_stream_has_run_far_ahead() -> None:
    error = line(b"e" * 1000, b"stderr")
    behind = error * (longest_span(4096) // len(error))
    before = parse(OPEN + behind[: -2 * len(error)], 0, "cri", limit=4096, hold=False)
    assert before.consumed == 0
    after = go_on(OPEN + behind + error, before, limit=4096, hold=False)
    assert (after.bodies[0], after.marks[0]) == (b"begun ", TRUNCATED)
    assert after.consumed == len(OPEN + behind + error)
    late = go_on(OPEN + behind + error + END, after, limit=4096)
    assert (list(late.bodies), late.marks) == ([b"and ended"], {0: TRUNCATED})


def test_cursor_remembers_a_bounded_number_of_ranges() -> None:
    data = (OPEN + ERROR) * MOST_AHEAD
    bounded = parse(data, 0, "cri", hold=False)
    assert (bounded.consumed, len(bounded.ahead), len(bounded)) == (0, MOST_AHEAD, MOST_AHEAD)
    data += OPEN + ERROR
    ended = go_on(data, bounded, hold=False)
    assert list(ended.bodies) == [b"begun " * (MOST_AHEAD + 1), b"why it hangs"]
    assert ended.marks == {0: TRUNCATED}
    assert (ended.consumed, ended.ahead) == (len(data), ())
    late = go_on(data + END, ended)
    assert (list(late.bodies), late.marks) == ([b"and ended"], {0: TRUNCATED})


def test_docker_line_with_too_long_a_text_is_cut_in_its_text() -> None:
    data = b'{"log":"%b\\n","stream":"stderr","time":"2026-11-21T10:00:00Z"}\n' % (b"x" * 250)
    records = parse(data, 0, "docker", limit=100)
    assert [len(body) for body in records.bodies] == [100, 100, 50]
    assert set(records.streams) == {b"stderr"}
    assert records.marks == dict.fromkeys(range(3), TRUNCATED)
    assert (sum(records.sizes), len(set(records.begins)), records.consumed) == (len(data), 3, len(data))


def test_text_loses_one_carriage_return_and_its_empty_lines_are_counted() -> None:
    data = b"a\r\n\n\r\nb\r\r\n \nc"
    records = parse(data, 5, "text", read_time=TIME, final=True)
    assert list(records.bodies) == [b"a", b"b\r", b" ", b"c"]
    assert (records.empties, records.empty_bytes, records.consumed) == (2, 3, 5 + len(data))
    assert sum(records.sizes) == len(data) - 3
    assert set(records.times) == {TIME}


@pytest.mark.parametrize(
    ("message", "time"),
    [
        (b'{"time":"2026-01-01T00:00:00Z","timestamp":"2026-01-02T00:00:00Z"}', b"2026-01-02T00:00:00Z"),
        (b'{"timestamp":"x","@timestamp":1,"time":"2026-01-01T00:00:00.5+01:00"}', b"2026-01-01T00:00:00.5+01:00"),
        (b'{"t\\u0069me":"2026-01-01T00:00:00Z"}', b"2026-01-01T00:00:00Z"),
        (b'{"time":"2026-01-01T00:00:00\\u005a","a":"\\ud800"}', b"2026-01-01T00:00:00Z"),
        (b'{"time":"2026-01-01T00:00:00Z","a":"\xff"}', b"2026-01-01T00:00:00Z"),
        (b'{"time":"2026-02-30T00:00:00Z"}', TIME),
        (b'{"time":1767225600000}', TIME),
        (b'{"a":{"time":"2026-01-01T00:00:00Z"}}', TIME),
    ],
)
def test_time_of_a_json_line_is_its_own_where_it_tells_one(message: bytes, time: bytes) -> None:
    records = parse(message + b"\nno json\n", 0, "json", read_time=TIME)
    assert list(records.times) == [time, time]
    assert records.marks == {1: b',"parse_error":"json"'}


@pytest.mark.parametrize(
    ("first", "framing"),
    [
        (line(b"x")[:-1], "cri"),
        (b"2026-11-21T10:00:00Z stderr P", "cri"),
        (b'{"log":"x","stream":"stdout","time":"2026-11-21T10:00:00Z"}', "docker"),
        (b'{"log":"x","stream":"stdin","time":"2026-11-21T10:00:00Z"}', "json"),
        (b'{"log":"x","stream":"stdout","time":"now"}', "json"),
        (b' {"a":"\xff"}\r', "json"),
        (b'{"a":1', "text"),
        (b"", "text"),
        (b"2026-11-21T10:00:00Z stdin F x", "text"),
    ],
)
def test_format_is_told_by_the_first_line(first: bytes, framing: Format) -> None:
    assert detect_format(first) == framing
