"""Dead letters: kept, found, bounded, and shown without harm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.dead_letters import FILE_NAME, OVERHEAD_BYTES, DeadLetter, DeadLetters, Evicted, list_text, show_text
from shipper.errors import StateError

ROOM = 1 << 20


def letter(
    begin: int = 0,
    *,
    output: str = "es",
    generation: int = 1,
    namespace: str | None = "shop",
    path: str = "/var/log/pods/shop_cart_uid/app/0.log",
    reason: str = "document_parsing_exception",
    detail: str = "",
    time: float = 1795255200.0,
    document: bytes = b'{"a":1}',
    document_id: str | None = "id",
) -> DeadLetter:
    return DeadLetter(
        time=time,
        output=output,
        reason=reason,
        detail=detail,
        target="logs-shop",
        namespace=namespace,
        pod=None if namespace is None else "cart",
        container=None if namespace is None else "app",
        path=path,
        generation=generation,
        begin=begin,
        end=begin + 100,
        source_bytes=100,
        document=document,
        document_id=document_id,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeadLetters]:
    opened = DeadLetters.open(tmp_path, ROOM)
    yield opened
    opened.close()


def begins(letters: list[DeadLetter]) -> list[int]:
    return [one.begin for one in letters]


def test_letter_comes_back_as_it_was_and_with_an_id(store: DeadLetters) -> None:
    sent = [letter(0, document=b'{"a":"\xc3\xa4"}'), letter(100, namespace=None, document_id=None)]
    assert store.add(sent) == []
    first, second = store.select()
    assert (first.id, second.id) == (1, 2)
    assert [first, second] == [
        DeadLetter(**{name: getattr(one, name) for name in DeadLetter.__struct_fields__} | {"id": i})
        for i, one in enumerate(sent, 1)
    ]


def test_letters_outlive_the_daemon(tmp_path: Path) -> None:
    store = DeadLetters.open(tmp_path, ROOM)
    store.add([letter(7)])
    store.close()
    assert begins(DeadLetters.open(tmp_path, ROOM).select()) == [7]


def test_same_record_again_replaces_its_row(store: DeadLetters) -> None:
    store.add([letter(0), letter(100)])
    store.add([letter(0, reason="later_reason", document=b"{}")])
    replaced, other = store.select()
    assert (replaced.id, replaced.reason, replaced.document) == (1, "later_reason", b"{}")
    assert other.reason == "document_parsing_exception"


def test_record_with_an_id_is_the_same_when_a_crash_took_the_row_of_its_file(store: DeadLetters) -> None:
    store.add([letter(0, generation=1), letter(0, generation=1, document_id=None)])
    store.add([letter(0, generation=2), letter(0, generation=2, document_id=None)])
    assert [(one.generation, one.document_id) for one in store.select()] == [(2, "id"), (1, None), (2, None)]


def test_replaced_letter_waits_for_replay_again(store: DeadLetters) -> None:
    store.add([letter(0)])
    store.mark_replayed([1])
    store.add([letter(0)])
    assert [one.replayed for one in store.select()] == [None]


@pytest.mark.parametrize(
    "other",
    [
        letter(0, output="other"),
        letter(1),
        letter(0, path="/var/log/pods/shop_cart_other-uid/app/0.log"),  # generation ids begin anew with a new state
        letter(0, document_id="other"),
        letter(0, document_id=None),
    ],
    ids=["output", "begin", "path", "document id", "no document id"],
)
def test_different_records_are_kept_apart(store: DeadLetters, other: DeadLetter) -> None:
    store.add([letter(0), other])
    assert len(store.select()) == 2


def test_selection_by_each_property(store: DeadLetters) -> None:
    store.add(
        [
            letter(0, time=10.0),
            letter(1, time=20.0, output="archive"),
            letter(2, time=30.0, reason="other"),
            letter(3, time=40.0, namespace="bank"),
            letter(4, time=50.0),
        ]
    )
    assert begins(store.select()) == [0, 1, 2, 3, 4]
    assert begins(store.select(output="archive")) == [1]
    assert begins(store.select(reason="other")) == [2]
    assert begins(store.select(namespace="bank")) == [3]
    assert begins(store.select(since=20.0, until=40.0)) == [1, 2]
    assert begins(store.select(output="es", namespace="shop", since=20.0)) == [2, 4]


def test_all_can_be_read_in_pages(store: DeadLetters) -> None:
    store.add([letter(i) for i in range(25)])
    pages, after = [], 0
    while page := store.select(after=after, limit=10):
        pages.append(begins(page))
        after = page[-1].id
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [begin for page in pages for begin in page] == list(range(25))


def test_one_letter_by_its_id(store: DeadLetters) -> None:
    store.add([letter(0), letter(5)])
    found = store.get(2)
    assert found is not None
    assert found.begin == 5
    store.remove([1])
    assert store.get(1) is None


def test_replayed_letters_are_shown_when_asked_for(store: DeadLetters) -> None:
    store.add([letter(0), letter(1)])
    store.mark_replayed([1])
    assert begins(store.select()) == [1]
    assert begins(store.select(replayed=True)) == [0, 1]
    replayed = store.get(1)
    assert replayed is not None
    assert replayed.replayed is not None


def test_summary_counts_by_output_and_reason(store: DeadLetters) -> None:
    store.add([letter(0, time=1.0), letter(1, time=2.0), letter(2, reason="rare"), letter(3, output="archive")])
    store.mark_replayed([1])
    assert [tuple(group) for group in store.summary()] == [
        ("archive", "document_parsing_exception", 1, 0, 100, 1795255200.0, 1795255200.0),
        ("es", "document_parsing_exception", 2, 1, 200, 1.0, 2.0),
        ("es", "rare", 1, 0, 100, 1795255200.0, 1795255200.0),
    ]


def test_oldest_go_when_there_is_no_room_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = 100 + OVERHEAD_BYTES
    store = DeadLetters.open(tmp_path, 4 * size)
    document = b"x" * 100
    assert store.add([letter(i, generation=1 + i // 2, document=document) for i in range(4)]) == []
    evicted = store.add([letter(i, generation=9, document=document) for i in range(4, 7)])
    assert evicted == [Evicted("es", 1, 200, 2), Evicted("es", 2, 100, 1)]
    assert begins(store.select()) == [3, 4, 5, 6]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_bound_counts_documents_and_details(tmp_path: Path) -> None:
    store = DeadLetters.open(tmp_path, 2 * OVERHEAD_BYTES + 1_000)
    store.add([letter(0, document=b"x" * 500), letter(1, document=b"", detail="y" * 501)])
    assert begins(store.select()) == [1]


def test_bound_follows_replacement_and_removal(tmp_path: Path) -> None:
    store = DeadLetters.open(tmp_path, 2 * OVERHEAD_BYTES + 1_000)
    for _ in range(3):
        assert store.add([letter(0, document=b"x" * 900)]) == []
    assert store.add([letter(0, document=b"x" * 100)]) == []
    assert store.add([letter(1, document=b"x" * 900)]) == []
    store.remove([store.select()[1].id])
    assert store.add([letter(2, document=b"x" * 900)]) == []
    assert begins(store.select()) == [0, 2]


def test_replayed_letters_go_first_and_are_not_lost(tmp_path: Path) -> None:
    store = DeadLetters.open(tmp_path, 2 * OVERHEAD_BYTES + 100)
    store.add([letter(0), letter(1)])
    store.mark_replayed([2])
    assert store.add([letter(2)]) == []
    assert begins(store.select(replayed=True)) == [0, 2]


def test_file_name_and_detail_that_are_no_unicode_are_kept_readable(store: DeadLetters) -> None:
    store.add([letter(0, path="/logs/\udcff.log", detail="\ud800")])
    (kept,) = store.select()
    assert (kept.path, kept.detail) == ("/logs/\\udcff.log", "\\ud800")


def test_command_reads_and_marks_beside_the_daemon(tmp_path: Path, store: DeadLetters) -> None:
    beside = DeadLetters.open_beside(tmp_path)
    store.add([letter(0), letter(1)])
    beside.mark_replayed([1])
    assert begins(store.select()) == [1]
    beside.close()


def test_command_finds_nothing_where_there_is_no_file_and_makes_none(tmp_path: Path) -> None:
    beside = DeadLetters.open_beside(tmp_path)
    assert beside.select() == []
    assert list_text(beside.select(), beside.summary()) == "there are no dead letters"
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_is_set_aside_by_the_daemon_only(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError, match="is damaged"):
        DeadLetters.open_beside(tmp_path)
    assert DeadLetters.open(tmp_path, ROOM).select() == []
    assert len(list(tmp_path.glob(f"{FILE_NAME}.damaged-*"))) == 1


def test_list_is_a_table_and_a_count_of_each_reason(store: DeadLetters) -> None:
    store.add([letter(0, detail="failed to parse field [status]"), letter(1, namespace=None, path="/logs/a.log")])
    assert list_text(store.select(), store.summary()).splitlines() == [
        "ID  TIME                  OUTPUT  REASON                      FROM           DETAIL",
        "1   2026-11-21T10:00:00Z  es      document_parsing_exception  shop/cart/app  failed to parse field [status]",
        "2   2026-11-21T10:00:00Z  es      document_parsing_exception  /logs/a.log",
        "",
        "OUTPUT  REASON                      RECORDS  REPLAYED  FIRST                 LAST",
        "es      document_parsing_exception  2        0         2026-11-21T10:00:00Z  2026-11-21T10:00:00Z",
    ]


def test_show_tells_reason_source_and_document(store: DeadLetters) -> None:
    store.add([letter(4096, detail="failed to parse field [n]", document=b'{"n":12345678901234567890.10,"n":[1]}')])
    (kept,) = store.select()
    assert show_text(kept).splitlines() == [
        "dead letter: 1",
        "rejected:    2026-11-21T10:00:00Z",
        "replayed:    no",
        "output:      es -> logs-shop",
        "reason:      document_parsing_exception",
        "detail:      failed to parse field [n]",
        "source:      /var/log/pods/shop_cart_uid/app/0.log bytes 4096 to 4196",
        "document id: id",
        "",
        "{",
        '  "n": 12345678901234567890.10,',
        '  "n": [',
        "    1",
        "  ]",
        "}",
    ]


@pytest.mark.parametrize("document", [b'{"a":"\xc2\x9b2J"}', b"no json \x1b[2J", b'{"a":' + b"[" * 5_000, b"\xff"])
def test_no_document_can_steer_the_terminal(document: bytes) -> None:
    text = show_text(letter(document=document, detail="\x1b[2J"))
    assert text.replace("\n", "").isprintable()
