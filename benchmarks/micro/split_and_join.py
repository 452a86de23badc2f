"""CRI lines to records, by the Python twin: split into columns, `P` and `F` joined."""

from benchmarks.micro.stage import chunks, lines, options, say, seconds_of
from shipper.parsers import parse
from shipper.parsers.cri import regular


def main() -> None:
    limit_s, data = options(__doc__), chunks()
    count = lines(data)
    say("split", seconds_of(lambda: [regular(c, 0, limit=1 << 20) for c in data], limit_s=limit_s), count, "line")
    say("split, join", seconds_of(lambda: [parse(c, 0, "cri") for c in data], limit_s=limit_s), count, "line")


if __name__ == "__main__":
    main()
