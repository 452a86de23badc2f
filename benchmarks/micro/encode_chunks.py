"""Log bytes to request bodies: the native encoder, where it is there, and both ways of the Python twin."""

from functools import partial

from benchmarks.micro.stage import (
    ENVELOPE,
    FRAME,
    chunks,
    lines,
    options,
    say,
    seconds_of,
)
from shipper import native
from shipper.body import Body, PlainBody, new_body
from shipper.encode import encode_natively, write
from shipper.frame import Target
from shipper.ordinary import encode_ordinary
from shipper.parsers import START, parse


def _natively(data: list[bytes], body: Body) -> None:
    del body[0:]
    target = Target(ENVELOPE, body)
    for chunk in data:
        encode_natively(chunk, 0, FRAME, [target], final=False, state=START, known=0)


def _quickly(data: list[bytes], body: Body) -> None:
    del body[0:]
    target = Target(ENVELOPE, body)
    for chunk in data:
        if encode_ordinary(chunk, 0, FRAME, [target], final=False, state=START, known=0) is None:
            raise ValueError("the chunks are not ordinary")


def _carefully(data: list[bytes], body: Body) -> None:
    del body[0:]
    for chunk in data:
        write(parse(chunk, 0, "cri"), FRAME, ENVELOPE, body)


def main() -> None:
    limit_s, data = options(__doc__), chunks()
    count, body = lines(data), new_body()
    if native.MODULE is not None:
        say("native", seconds_of(partial(_natively, data, body), limit_s=limit_s), count, "line")
        tail = data[0].splitlines(keepends=True)[0]
        one = seconds_of(partial(_natively, [tail] * 1000, body), limit_s=limit_s)
        say("native, a chunk of one line", one, 1000, "chunk")
    plain = PlainBody()
    say("Python, what is ordinary", seconds_of(partial(_quickly, data, plain), limit_s=limit_s), count, "line")
    say("Python, whatever comes", seconds_of(partial(_carefully, data, plain), limit_s=limit_s), count, "line")


if __name__ == "__main__":
    main()
