"""What stands around a record: ids that never change, times to the nanosecond, names of any bytes."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.document import id_base, make_envelope, reserved_keys, rfc3339, time_ns
from shipper.record import Envelope, Source

POD = Source("pods", "/p/0.log", "shop", "cart", "u-1", "app", 0)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2260, 1, 1)),  # noqa: DTZ001
    st.from_regex(r"\A[0-9]{1,9}\Z"),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_time_is_exact_in_every_zone_and_width(moment: datetime, digits: str, zone_min: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    local = moment + timedelta(minutes=zone_min)
    zone = f"{'-' if zone_min < 0 else '+'}{abs(zone_min) // 60:02}:{abs(zone_min) % 60:02}"
    expected = (moment - EPOCH) // timedelta(seconds=1) * 10**9 + int(digits.ljust(9, "0"))
    assert time_ns(f"{local:%Y-%m-%dT%H:%M:%S}.{digits}{zone}".encode()) == expected
    assert time_ns(f"{moment:%Y-%m-%dT%H:%M:%S}.{digits}Z".encode()) == expected


@pytest.mark.parametrize("time", [b"", b"x", b"2026-11-21", b"2026-02-30T00:00:00Z", b"2026-11-21T10:00:00", b"\xff"])
def test_what_is_no_time_is_zero(time: bytes) -> None:
    assert time_ns(time) == 0


@given(st.integers(0, 4 * 10**15))
def test_time_of_reading_is_read_back(epoch_us: int) -> None:
    assert abs(time_ns(rfc3339(epoch_us / 1e6)) - epoch_us * 1000) <= 2000


def test_id_base_tells_pods_containers_restarts_and_generations_apart() -> None:
    others = [
        POD,
        Source("pods", "/p/0.log", "shop", "cart", "u-2", "app", 0),
        Source("pods", "/p/0.log", "shop", "cart", "u-1", "app2", 0),
        Source("pods", "/p/1.log", "shop", "cart", "u-1", "app", 1),
    ]
    bases = [id_base(source, 1) for source in others] + [id_base(POD, 2)]
    assert len(set(bases)) == len(bases)
    assert id_base(POD, 0x18B2F0A1) == id_base(POD, 0x18B2F0A1)
    assert id_base(POD, 0x18B2F0A1).startswith("18b2f0a1-")


def test_id_base_does_not_depend_on_where_the_file_lies_now() -> None:
    moved = Source("other", "/q/0.log", "shop", "cart", "u-1", "app", 0)
    assert id_base(moved, 1) == id_base(POD, 1)


def envelope_of(source: Source) -> Envelope:
    document = {"pod_id": "real"} if source.is_container else {}
    return make_envelope(source, base="b", frame=(b'{"_id":"', b'",'), document=document, static={"c": 'p"'})


def test_container_has_its_identity_and_the_uid_that_the_api_knows() -> None:
    envelope = envelope_of(POD)
    for stream, after in zip(("stdout", "stderr"), envelope.after_time, strict=True):
        document = json.loads(envelope.before_time.replace(b'",', b"{", 1) + b"T" + after + b"}")
        assert document == {
            "@timestamp": "T",
            "stream": stream,
            "kubernetes": {
                "namespace_name": "shop",
                "pod_name": "cart",
                "pod_id": "real",
                "container_name": "app",
            },
            "c": 'p"',
        }
    assert envelope.id_prefix == b'{"_id":"b-'
    assert envelope.offset_tail is None


def test_other_file_has_its_path_and_offset() -> None:
    envelope = envelope_of(Source("files", '/a "b".log'))
    document = json.loads(b'{"@timestamp":"T' + envelope.after_time[0] + b"17" + (envelope.offset_tail or b"") + b"}")
    assert document == {"@timestamp": "T", "file": {"path": '/a "b".log', "offset": 17}, "c": 'p"'}


def test_names_that_are_no_utf8_become_valid() -> None:
    name = os.fsdecode(b"caf\xe9")
    file = envelope_of(Source("files", name)).after_time[0]
    assert "caf\ufffd".encode() in file
    pod = Source("pods", name, name, name, name, name, 0)
    assert json.loads(b"{" + envelope_of(pod).after_time[0][2:] + b"}")["kubernetes"]["pod_name"] == "caf\ufffd"
    assert id_base(pod, 1) != id_base(POD, 1)


def test_reserved_keys_are_those_that_are_written() -> None:
    assert reserved_keys(POD, {"cluster": 1}, has_id=False) == {"@timestamp", "stream", "kubernetes", "cluster"}
    assert reserved_keys(Source("f", "/x"), {}, has_id=True) == {"@timestamp", "file", "_id"}
