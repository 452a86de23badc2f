import pytest

from shipper.inputs.tail.paths import name_of, pod_source


@pytest.mark.parametrize(
    ("file", "live", "is_gzip"),
    [
        ("0.log.20261121-010203", "0.log", False),
        ("12.log.20261121-010203.gz", "12.log", True),
        ("app.log.1", "app.log", False),
        ("app.log.2.gz", "app.log", True),
        ("app.log-20261121.gz", "app.log", True),
        ("app.log.2026-11-21", "app.log", False),
        ("app.log.2026-11-21T10:00:00", "app.log", False),
        ("app.log.gz", "app.log", True),
        ("a\nb.log.1", "a\nb.log", False),
    ],
)
def test_rotated_names_belong_to_their_live_file(file: str, live: str, is_gzip: bool) -> None:
    name = name_of(file)
    assert name is not None
    assert (name.live, name.is_live, name.is_gzip) == (live, False, is_gzip)


@pytest.mark.parametrize("file", ["0.log", "app.log", "app-1.log", "app.2026-11-21.log", "journal", "a\nb.log"])
def test_other_names_are_live(file: str) -> None:
    name = name_of(file)
    assert name is not None
    assert (name.live, name.is_live) == (file, True)


@pytest.mark.parametrize("file", ["0.log.20261121-010203.tmp", ".0.log.swp", "0.log~", "x.part"])
def test_leftovers_are_no_log_files(file: str) -> None:
    assert name_of(file) is None


def test_number_is_part_of_a_name_unless_there_is_a_file_without_it() -> None:
    alone, beside = name_of("worker.2", known={"worker.2"}), name_of("worker.2", known={"worker.2", "worker"})
    assert alone is not None
    assert beside is not None
    assert (alone.live, beside.live) == ("worker.2", "worker")


def test_rotated_file_stays_rotated_while_its_live_file_is_missing() -> None:
    name = name_of("app.log.1", known={"app.log.1"})
    assert name is not None
    assert name.live == "app.log"


def test_names_sort_from_the_oldest_to_the_live_one() -> None:
    for oldest_first in (
        ["app.log.10", "app.log.9.gz", "app.log.1", "app.log"],
        ["0.log.20261120-235959.gz", "0.log.20261121-000000", "0.log"],
        ["app.log-20261120.gz", "app.log-20261121", "app.log"],
    ):
        names = {file: name_of(file) for file in oldest_first}
        assert sorted(names, key=lambda file: names[file].order) == oldest_first  # type: ignore[union-attr]


def test_pods_path_tells_whose_log_it_is() -> None:
    source = pod_source("pods", "/var/log/pods/shop_cart-7d9f_8b1c-uid/app/3.log")
    assert (source.namespace, source.pod, source.uid, source.container, source.restart) == (
        "shop",
        "cart-7d9f",
        "8b1c-uid",
        "app",
        3,
    )


@pytest.mark.parametrize("path", ["/logs/app.log", "/var/log/pods/shop_cart/app/0.log", "/pods/a_b_c/app/x.log"])
def test_other_paths_have_no_identity(path: str) -> None:
    assert not pod_source("local", path).is_container
