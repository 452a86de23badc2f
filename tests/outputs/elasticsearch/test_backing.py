import pytest

from shipper.delivery import Batch
from shipper.outputs.elasticsearch.backing import MARGIN_S, Document, creation_times, documents_of, question, reachable

NOW = 1_800_000_000.0
HOUR = 3600.0


def indices(*hours_ago: float) -> dict[str, float]:
    return {f".ds-logs-{number:06d}": NOW - hours * HOUR for number, hours in enumerate(hours_ago, start=1)}


def test_a_plain_index_is_never_asked() -> None:
    assert reachable("logs", {"logs": NOW}, NOW) == []


def test_where_there_is_no_index_there_is_nothing_to_ask() -> None:
    assert reachable("logs", {}, NOW) == []


@pytest.mark.parametrize(
    ("hours_ago", "since_hours_ago", "asked"),
    [
        ((30.0,), 0.0, [1]),
        ((90.0, 60.0, 30.0), 0.0, [3, 2]),  # no rollover since; the clocks may be wrong all the same
        ((90.0, 60.0, 30.0), 31.0, [3, 2]),
        ((90.0, 60.0, 30.0), 61.0, [3, 2, 1]),
        ((90.0, 60.0, 30.0), 100.0, [3, 2, 1]),
        ((4.0, 3.0, 2.0, 1.0), 2.5, [4, 3, 2]),
    ],
)
def test_an_index_is_reachable_until_the_next_one_is_made(
    hours_ago: tuple[float, ...], since_hours_ago: float, asked: list[int]
) -> None:
    found = reachable("logs", indices(*hours_ago), NOW - since_hours_ago * HOUR)
    assert found == [f".ds-logs-{number:06d}" for number in asked]


def test_clocks_that_differ_by_less_than_the_margin_hide_no_index() -> None:
    created = {"a": NOW - 9 * HOUR, "b": NOW - MARGIN_S / 2, "c": NOW - MARGIN_S / 3}
    assert reachable("logs", created, NOW) == ["c", "b", "a"]


def test_creation_times_are_read_from_the_settings() -> None:
    body = b'{".ds-a":{"settings":{"index":{"creation_date":"1800000000123"}}}}'
    assert creation_times(body) == {".ds-a": 1_800_000_000.123}
    with pytest.raises(ValueError, match="creation_date"):
        creation_times(b'{".ds-a":{"settings":{"index":{}}}}')


def test_action_lines_tell_the_documents() -> None:
    body = (
        b'{"create":{"_id":"1"}}\n{"create":{"_id":"no"}}\n'
        b'{"create":{"_index":"logs-b","_id":"2","routing":"r"}}\n{"m":1}\n'
    )
    assert documents_of(Batch(bytearray(body), [], 2, 2), "logs-a") == [
        Document("logs-a", "1", None),
        Document("logs-b", "2", "r"),
    ]


def test_a_question_names_ids_and_where_needed_their_routing() -> None:
    plain, routed = Document("a", "1", None), Document("a", "2", "r")
    assert question([plain]) == b'{"ids":["1"]}'
    assert question([plain, routed]) == b'{"docs":[{"_id":"1"},{"_id":"2","routing":"r"}]}'
