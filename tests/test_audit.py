"""The ledger, printed: sums by container and output, and what does not add up."""

import msgspec
import pytest

from shipper.audit import accounts, as_json, from_json, table, verdict
from shipper.checkpoint import CursorRow, GenerationRow


def generation(
    id_: int = 1, *, size: int = 100, gaps: int = 0, pod: str | None = "cart", path: str = "/log"
) -> GenerationRow:
    container = "app" if pod else None
    namespace = "shop" if pod else None
    return GenerationRow(
        id=id_,
        input="pods",
        path=path,
        live_path=path,
        namespace=namespace,
        pod=pod,
        container=container,
        size=size,
        gaps=gaps,
    )


def cursor(acked: int, output: str = "es", *, ahead: tuple[tuple[int, int], ...] = (), **fates: int) -> CursorRow:
    return CursorRow(generation=1, output=output, acked=acked, ahead=ahead, fates=fates)


def test_generations_of_one_container_are_one_account() -> None:
    (account,) = accounts([(generation(1), [cursor(100, delivered=100)]), (generation(2), [cursor(40, delivered=40)])])
    assert (account.namespace, account.pod, account.container, account.output) == ("shop", "cart", "app", "es")
    assert (account.seen, account.delivered, account.pending) == (200, 140, 60)
    assert account.adds_up


def test_every_fate_has_its_column() -> None:
    fates = {
        "delivered": 1,
        "spooled": 2,
        "filtered:drop:dropped": 3,
        "filtered:pods:empty": 4,
        "unmatched": 5,
        "dead_lettered": 6,
        "skipped": 7,
        "lost:deleted": 8,
    }
    (account,) = accounts([(generation(size=40), [CursorRow(generation=1, output="es", acked=36, fates=fates)])])
    assert account.adds_up
    found = [account.delivered, account.spooled, account.filtered, account.unmatched, account.dead_lettered]
    assert [*found, account.skipped, account.lost, account.pending, account.seen] == [1, 2, 7, 5, 6, 7, 8, 4, 40]
    assert account.reasons == {"filtered:drop:dropped": 3, "filtered:pods:empty": 4, "lost:deleted": 8}
    header, row, total = table([account]).splitlines()
    assert header.split()[4:] == [
        "SEEN",
        "DELIVERED",
        "SPOOLED",
        "FILTERED",
        "UNMATCHED",
        "DEAD_LETTERED",
        "SKIPPED",
        "LOST",
        "PENDING",
        "OK",
    ]
    assert row.split() == ["shop", "cart", "app", "es", *["40", "1", "2", "7", "5", "6", "7", "8", "4", "yes"]]
    assert total.split() == ["all", *["40", "1", "2", "7", "5", "6", "7", "8", "4"]]


def test_ranges_beyond_the_cursor_are_known() -> None:
    (account,) = accounts([(generation(), [cursor(10, ahead=((20, 30),), delivered=20)])])
    assert account.adds_up
    assert account.pending == 80


@pytest.mark.parametrize(
    "row",
    [cursor(100, delivered=99), cursor(100, delivered=101), cursor(10, ahead=((20, 130),), delivered=120)],
)
def test_what_does_not_add_up_is_said(row: CursorRow) -> None:
    found = accounts([(generation(), [row])])
    assert not found[0].adds_up
    (sentence,) = verdict(found)
    assert sentence.startswith("shop/cart/app, output es: does not add up: generation 1:")
    assert table(found).splitlines()[1].endswith("NO")
    assert as_json(found)["accounts"][0]["adds_up"] is False


def test_one_wrong_generation_is_not_hidden_by_another() -> None:
    found = accounts([(generation(1), [cursor(50, delivered=40)]), (generation(2), [cursor(50, delivered=60)])])
    assert len(found[0].errors) == 2


def test_loss_of_unknown_size_is_said() -> None:
    found = accounts([(generation(gaps=2), [cursor(100, delivered=100)])])
    assert verdict(found) == ["shop/cart/app, output es: 2 times a file went away unseen, size unknown"]


def test_account_of_an_output_that_is_not_configured_any_more_is_marked() -> None:
    found = accounts([(generation(), [cursor(0, "old"), cursor(0, "es")])], ["es"])
    assert [(account.output, account.is_abandoned) for account in found] == [("es", False), ("old", True)]
    assert "old (abandoned)" in table(found)


def test_local_files_are_told_by_their_path_which_cannot_steer_the_terminal() -> None:
    found = accounts([(generation(pod=None, path="/logs/\x1b[2J\n.log", gaps=1), [cursor(0)])])
    shown = table(found) + "\n".join(verdict(found))
    assert r"/logs/\u001b[2J\u000a.log" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3


def test_table_of_nothing_has_its_frame() -> None:
    assert table([]).splitlines()[-1].split() == ["all", "0", "0", "0", "0"]


def test_no_name_can_steer_the_terminal_or_break_the_table() -> None:
    row = generation(gaps=1)
    row.container, row.pod = "\x1b[31m\n\udcff", "\u202e"
    found = accounts([(row, [cursor(100, delivered=100)])])
    assert "\\u001b[31m\\u000a\\udcff" in table(found)
    assert len(table(found).splitlines()) == 3
    assert all(line.isprintable() for line in [*table(found).splitlines(), *verdict(found)])


# -- what nobody is to have any more, and sums ------------------------------------------------------------------------


def parked(acked: int, output: str = "es", **fates: int) -> CursorRow:
    return CursorRow(generation=1, output=output, acked=acked, fates=fates, parked_at=1.0)


def test_what_nobody_is_to_have_is_no_backlog_and_adds_up() -> None:
    (account,) = accounts([(generation(), [parked(40, delivered=40)])], ["es"])
    assert (account.seen, account.delivered, account.left_out, account.pending) == (100, 40, 60, 0)
    assert account.adds_up
    assert account.is_left_out
    assert "es (left out)" in table([account])
    assert verdict([account]) == []


def test_an_account_is_left_out_when_all_of_it_is() -> None:
    """Of a container, a rotated file may be left out by its name."""
    rows = [(generation(1), [parked(0)]), (generation(2), [cursor(10, delivered=10)])]
    (account,) = accounts(rows, ["es"])
    assert (account.left_out, account.pending, account.is_left_out) == (100, 90, False)
    assert "left out" not in table([account])


def test_of_a_removed_output_nothing_is_pending() -> None:
    (account,) = accounts([(generation(), [parked(40, "old", delivered=40)])], ["es"])
    assert (account.is_abandoned, account.is_left_out, account.left_out, account.pending) == (True, False, 60, 0)


def test_namespaces_and_outputs_have_their_sums() -> None:
    rows = []
    for number, (namespace, pod) in enumerate([("pay", "a"), ("shop", "b"), ("shop", "c")], 1):
        row = generation(number, size=100 * number, pod=pod)
        row.namespace = namespace
        rows.append((row, [cursor(10, output, delivered=10) for output in ("es", "files")]))
    found = accounts(rows)
    lines = [line.split() for line in table(found).splitlines()]
    assert [line[:5] for line in lines[1:-1]] == [
        [*who, output, seen]
        for output in ("es", "files")
        for *who, seen in (
            ("pay", "a", "app", "100"),
            ("shop", "b", "app", "200"),
            ("shop", "c", "app", "300"),
            ("shop", "*", "*", "500"),
            ("*", "*", "*", "600"),
        )
    ]
    assert lines[-1] == ["all", "1200", "60", "0", "1140"]
    said = as_json(found)["sums"]
    assert [(s["output"], s["namespace"], s["seen"], s["pending"]) for s in said][:3] == [
        ("es", "pay", 100, 90),
        ("es", "shop", 500, 480),
        ("es", "*", 600, 570),
    ]


def test_what_a_daemon_says_is_what_it_was_made_of() -> None:
    found = accounts([(generation(gaps=1), [cursor(50, delivered=40), parked(10, "old", delivered=10)])], ["es"])
    assert from_json(msgspec.json.decode(msgspec.json.encode(as_json(found)))) == found
