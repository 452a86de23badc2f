"""Which records are one JSON object each: the Python twin's check, whole chunks and record by record."""

from benchmarks.micro.stage import options, records, say, seconds_of
from shipper.parsers.json_object import find_objects, is_object


def main() -> None:
    limit_s, data = options(__doc__), records()
    count = sum(map(len, data))
    say("whole chunks", seconds_of(lambda: [find_objects(r.bodies) for r in data], limit_s=limit_s), count, "record")
    slow = seconds_of(lambda: [is_object(body) for r in data for body in r.bodies], limit_s=limit_s)
    say("the slow twin, to the letter of RFC 8259", slow, count, "record")


if __name__ == "__main__":
    main()
