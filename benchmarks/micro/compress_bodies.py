"""A request body of 5 MiB into gzip: isal, as the output does it, beside zlib."""

import zlib

from isal import isal_zlib

from benchmarks.micro.stage import ENVELOPE, FRAME, options, records, seconds_of
from shipper.encode import write

BODY_BYTES = 5 * 2**20


def main() -> None:
    limit_s, body = options(__doc__), bytearray()
    while len(body) < BODY_BYTES:
        for each in records():
            write(each, FRAME, ENVELOPE, body)
    for name, compress in (("isal 1", isal_zlib.compress), ("zlib 1", zlib.compress)):
        size = len(compress(body, 1))
        seconds = seconds_of(lambda compress=compress: compress(body, 1), limit_s=limit_s)  # type: ignore[misc]
        print(f"{name:44}{len(body) / seconds / 1e6:10.0f} MB/s, to {size / len(body):.1%}")


if __name__ == "__main__":
    main()
