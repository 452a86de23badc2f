"""What ids cost the Python twin: the same documents written with and without."""

from functools import partial

from benchmarks.micro.stage import ENVELOPE, ENVELOPE_WITHOUT_ID, FRAME, options, records, say, seconds_of
from shipper.encode import write
from shipper.parsers import Records
from shipper.record import Envelope


def _write(data: list[Records], envelope: Envelope) -> None:
    body = bytearray()
    for each in data:
        write(each, FRAME, envelope, body)


def main() -> None:
    limit_s, data = options(__doc__), records()
    count = sum(map(len, data))
    with_ids = seconds_of(partial(_write, data, ENVELOPE), limit_s=limit_s)
    without = seconds_of(partial(_write, data, ENVELOPE_WITHOUT_ID), limit_s=limit_s)
    say("write", without, count, "record")
    say("write, with ids", with_ids, count, "record")


if __name__ == "__main__":
    main()
