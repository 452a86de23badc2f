"""Durations, sizes and secrets, as they are written and as they are shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.values import Secret, parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("0s", 0), ("0.7s", 0.7), ("1.5s", 1.5), ("5s", 5), ("10m", 600), ("1h", 3600), ("7d", 604800)],
)
def test_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("1B", 1), ("64KiB", 65536), ("5MiB", 5 * 2**20), ("10MB", 10**7), ("1.5GiB", 3 * 2**29), ("2 TiB", 2**41)],
)
def test_size_is_a_number_and_a_unit(text: str, count: int) -> None:
    assert parse_size(text) == count


def test_bare_number_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match=r'"20" is no duration: .*; did you mean "20s"\?'):
        parse_duration("20")
    with pytest.raises(ValueError, match=r'"4096" is no size: .*; did you mean "4096B"\?'):
        parse_size("4096")


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 week", "1e9s", "9" * 400 + "s", "1..5s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "KiB", "-1B", "1 kilobyte", "9" * 400 + "GiB", "infB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@given(st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h|d)", fullmatch=True))
def test_shown_duration_reads_as_the_same(text: str) -> None:
    seconds = parse_duration(text)
    assert parse_duration(show_duration(seconds)) == seconds


@given(st.integers(0, 10**15 - 1) | st.sampled_from([2**10, 2**20, 2**30, 2**40, 5 * 2**20, 10**7]))
def test_shown_size_reads_as_the_same(count: int) -> None:
    assert parse_size(show_size(count)) == count


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250ms"),
        (20, "20s"),
        (90, "90s"),
        (1.5, "1500ms"),
        (1.00005, "1.00005s"),
        (0.0005, "0.5ms"),
        (600, "10m"),
        (86400 * 7, "7d"),
        (0, "0ms"),
    ],
)
def test_duration_is_shown_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0B"), (1000, "1000B"), (65536, "64KiB"), (2**30, "1GiB")])
def test_size_is_shown_in_the_largest_whole_unit(count: int, text: str) -> None:
    assert show_size(count) == text


def test_secret_never_shows_itself(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    for secret in (Secret("hunter2"), Secret(file=str(file))):
        assert secret.get() == "hunter2"
        assert "hunter2" not in f"{secret} {secret!r} {[secret]}"


def test_secret_from_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    secret = Secret(file=str(file))
    assert not secret.reload()
    file.write_text("new\n")
    assert secret.reload()
    assert secret.get() == "new"


def test_secret_stays_what_it_was_when_its_file_has_gone(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old")
    secret = Secret(file=str(file))
    file.unlink()
    with pytest.raises(FileNotFoundError):
        secret.reload()
    assert secret.get() == "old"


def test_secret_of_the_configuration_itself_does_not_change() -> None:
    assert not Secret("x").reload()


def test_secrets_are_equal_when_they_say_and_come_from_the_same(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    assert Secret("x") == Secret("x")
    assert Secret("x") != Secret("y")
    assert Secret("x") != Secret(file=str(file))
    assert len({Secret("x"), Secret("x"), Secret(file=str(file))}) == 2
