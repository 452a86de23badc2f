"""What the scripts share: chunks to work on, a stopwatch, and a line to print."""

import argparse
import random
import time
from collections.abc import Callable

from benchmarks.world.applications import NODE_MIX
from benchmarks.world.generator import build_block
from shipper.document import make_envelope
from shipper.frame import Frame
from shipper.parsers import Records, parse
from shipper.record import Envelope, Source

FRAME = Frame("cri")
ENVELOPE = make_envelope(
    Source("pods", "/p/shop_cart-1_u/app/0.log", "shop", "cart-1", "u", "app", 0),
    base="1863f1a2b3c4d5e6-0123456789abcdef",
    frame=(b'{"create":{"_id":"', b'"}}\n{'),
    document={"host": "node-1", "labels": {"app": "cart", "app.kubernetes.io/name": "cart"}},
    static={},
)
ENVELOPE_WITHOUT_ID: Envelope = ENVELOPE._replace(id_prefix=None)


def options(text: str | None) -> float:
    """-> seconds that each measurement may take."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    return float(parser.parse_args().seconds)


def chunks() -> list[bytes]:
    """CRI lines of a second of each container of a node: some 140 KB each."""
    rng = random.Random(1)
    return [build_block(application, rng).render(0, 0) for application in NODE_MIX]


def records() -> list[Records]:
    return [parse(chunk, 0, "cri") for chunk in chunks()]


def lines(data: list[bytes]) -> int:
    return sum(chunk.count(b"\n") for chunk in data)


def seconds_of(work: Callable[[], object], *, limit_s: float) -> float:
    """Of one call: the quickest of those that fit into the time. What was slower was somebody else's doing."""
    best, until = float("inf"), time.perf_counter() + limit_s
    while True:
        began = time.perf_counter()
        work()
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended > until:
            return best


def say(what: str, seconds: float, count: int, unit: str) -> None:
    print(f"{what:44}{seconds / count * 1e6:10.3f} us/{unit}")
