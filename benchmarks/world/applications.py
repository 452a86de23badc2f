"""What applications write: realistic log records, each with a place for its sequence number.

A record carries `"seq":N` or `seq=N`, so that the checker can tell that each arrived once and in order. A long one,
which the runtime cuts into parts, also carries `"long"` at its head and its number again as `end` at its tail, so that
a half is known for what it is.
"""

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

Stream = Literal["stdout", "stderr"]

REFUSED_FIELD = "response_bytes"
SEQ = 987654321012345  # stands for the sequence number until it is known: a number, so that it can stand in JSON
RUNTIME_PART_BYTES = 16384  # containerd cuts lines at its buffer's size
LONG_SHARE = 0.012  # records that arrive in parts
HUGE_SHARE = (
    0.025  # of those: longer than the runtime's buffer; the rest is cut early, as after a flush without newline
)
TRACEBACK_SHARE = 0.0105  # records of a JSON application that begin a traceback of some six lines
TEXT_SHARE = 0.065  # records of a JSON application that are plain text: start-up banners, libraries

_PATHS = (
    "/api/v1/orders",
    "/api/v1/cart/items",
    "/healthz",
    "/api/v2/users/me",
    "/static/app.9f3c.js",
    "/search?q=shoes",
)
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "kube-probe/1.31",
    "okhttp/4.12.0",
    "python-requests/2.32.3",
)
_WORDS = ("order", "payment", "cart", "customer", "session", "cache", "retry", "queue", "shipment", "invoice", "token")
_NAMES = ("Zoë Müller", "José García", "Anna Smith", "王小明", "Łukasz Nowak", "Ben Carter")
_TRACEBACK = (
    "Traceback (most recent call last):  # seq={seq}",
    '  File "/app/shop/orders/views.py", line {line}, in post  # seq={seq}',
    "    order = service.place(cart, user=request.user)  # seq={seq}",
    '  File "/app/shop/orders/service.py", line {line}, in place  # seq={seq}',
    "    self.repository.save(order, timeout=self.timeout_s)  # seq={seq}",
    "psycopg.OperationalError: connection to server at 10.0.{line}.7 failed: timeout expired seq={seq}",
)


@dataclass(frozen=True, slots=True)
class Record:
    """One log record before it has a number. `cuts`: positions at which the runtime ends a part (`P`)."""

    kind: str
    stream: Stream
    content: bytes
    cuts: tuple[int, ...] = ()

    def parts(self) -> list[bytes]:
        edges = [0, *self.cuts, len(self.content)]
        return [self.content[a:b] for a, b in itertools.pairwise(edges)]

    def numbered_parts(self, seq: int) -> list[bytes]:
        """The content of its CRI lines, as written by the record with that number."""
        return [part.replace(b"%d" % SEQ, b"%d" % seq) for part in self.parts()]


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(_WORDS, k=words))


def pino(rng: random.Random) -> Record:
    """Node's pino: level as a number, time as epoch milliseconds."""
    path, status = rng.choice(_PATHS), rng.choice((200, 200, 200, 201, 304, 404, 500))
    body: dict[str, Any] = {"level": 50 if status == 500 else 30, "time": 1795255200000 + rng.randrange(10**6)}
    body |= {
        "pid": 17,
        "hostname": f"cart-{rng.randrange(16**5):05x}",
        "seq": SEQ,
        "reqId": f"req-{rng.randrange(36**6):x}",
    }
    body["req"] = {"method": rng.choice(("GET", "POST")), "url": path, "remoteAddress": f"10.0.{rng.randrange(255)}.7"}
    body["req"] |= {
        "headers": {"host": "shop.example", "user-agent": rng.choice(_AGENTS)},
        "query": {"page": rng.randrange(50)},
    }
    body |= {"res": {"statusCode": status}, "responseTime": round(rng.random() * 80, 3), "msg": "request completed"}
    return Record("pino", "stdout", _compact(body))


def django(rng: random.Random) -> Record:
    """Django with structlog: timestamp, level, event."""
    body: dict[str, Any] = {"timestamp": f"2026-11-21T10:00:{rng.randrange(60):02d}.{rng.randrange(10**6):06d}Z"}
    body |= {"level": rng.choice(("info", "info", "warning")), "event": f"{rng.choice(_WORDS)}_updated", "seq": SEQ}
    body |= {
        "request_id": f"{rng.getrandbits(128):032x}",
        "user_id": rng.randrange(10**6),
        "customer": rng.choice(_NAMES),
    }
    body |= {
        "logger": "shop.orders.views",
        "detail": _sentence(rng, rng.randrange(4, 12)),
        "amount": rng.randrange(10**5) / 100,
    }
    body |= {
        "ip": f"10.{rng.randrange(255)}.0.1",
        "code": "shop.orders",
        "view": rng.choice(_PATHS),
        "duration_s": rng.random(),
    }
    return Record("django", "stdout", _compact(body))


def loguru(rng: random.Random) -> Record:
    """Python's loguru with serialize=True: all is nested under `record`."""
    message, line = _sentence(rng, 5), rng.randrange(400)
    level = rng.choice(("INFO", "DEBUG", "WARNING"))
    when = 1795255200 + rng.random() * 10**4
    record: dict[str, Any] = {
        "elapsed": {"repr": "0:00:01.2", "seconds": round(rng.random() * 9, 6)},
        "exception": None,
    }
    record |= {
        "extra": {"seq": SEQ, "job": rng.choice(_WORDS)},
        "file": {"name": "worker.py", "path": "/app/worker.py"},
    }
    record |= {"function": "run", "level": {"icon": "\u2139\ufe0f", "name": level, "no": 20}, "line": line}
    record |= {"message": message, "module": "worker", "name": "worker", "process": {"id": 1, "name": "MainProcess"}}
    record |= {
        "thread": {"id": 140213, "name": "MainThread"},
        "time": {"repr": "2026-11-21", "timestamp": round(when, 6)},
    }
    return Record("loguru", "stdout", _compact({"text": f"{level} worker:run:{line} - {message}\n", "record": record}))


def nginx(rng: random.Random) -> Record:
    """Combined access log of nginx; one line in twenty is of the error log, on stderr."""
    if rng.random() < 0.05:
        text = (
            f"2026/11/21 10:00:00 [error] 7#7: *{rng.randrange(10**5)} upstream timed out seq={SEQ}, client: 10.1.2.3"
        )
        return Record("nginx_error", "stderr", text.encode())
    request = f'"GET {rng.choice(_PATHS)} HTTP/1.1" {rng.choice((200, 200, 304, 404))} {rng.randrange(50000)}'
    client = f"10.{rng.randrange(255)}.{rng.randrange(255)}.9"
    origin = f'"https://shop.example/" "{rng.choice(_AGENTS)}"'
    text = f"{client} - - [21/Nov/2026:10:00:00 +0000] {request} {origin} rt=0.0 seq={SEQ}"
    return Record("nginx", "stdout", text.encode())


def python(rng: random.Random) -> Record:
    """Plain Python logging, which goes to stderr."""
    level = rng.choice(("INFO", "INFO", "WARNING", "ERROR"))
    origin = f"2026-11-21 10:00:00,{rng.randrange(1000):03d} {level} shop.jobs [{rng.randrange(9)}]"
    text = f"{origin} seq={SEQ} {_sentence(rng, 9)}"
    return Record("python", "stderr", text.encode())


def refused(rng: random.Random) -> Record:
    """An object with text where the index has a number, REFUSED_FIELD: the destination will never take it."""
    body = {"level": 40, "seq": SEQ, REFUSED_FIELD: "none", "msg": _sentence(rng, 4)}
    return Record("refused", "stdout", _compact(body))


def _plain(rng: random.Random) -> Record:
    return Record("text", "stdout", f"[startup] seq={SEQ} loaded {_sentence(rng, rng.randrange(3, 12))}".encode())


def _traceback(rng: random.Random) -> list[Record]:
    line = rng.randrange(1, 255)
    return [Record("traceback", "stderr", text.format(seq=SEQ, line=line).encode()) for text in _TRACEBACK]


def _long(rng: random.Random, *, as_json: bool) -> Record:
    """A record that the runtime writes as `P` lines and an `F`."""
    huge = rng.random() < HUGE_SHARE
    filling = "".join(
        f"{rng.getrandbits(40):010x}," for _ in range(rng.randrange(1600, 4500) if huge else rng.randrange(20, 70))
    )
    if as_json:
        content = _compact({"level": 30, "seq": SEQ, "long": True, "rows": filling, "end": SEQ})
    else:
        content = f"dump seq={SEQ} long rows={filling} end={SEQ}".encode()
    middle = range(40, len(content) - 40)  # the numbers at head and tail stay whole
    cuts = tuple(middle[RUNTIME_PART_BYTES - 40 :: RUNTIME_PART_BYTES]) if huge else (rng.choice(middle),)
    return replace(Record("long_json" if as_json else "long_text", "stdout", content), cuts=cuts)


@dataclass(frozen=True, slots=True)
class Application:
    """A kind of program, and how often it writes anything but its usual record."""

    name: str
    usual: Callable[[random.Random], Record]
    is_json: bool

    def draw(self, rng: random.Random) -> list[Record]:
        """The next records: one, or the lines of a traceback."""
        chance = rng.random()
        if chance < LONG_SHARE:
            return [_long(rng, as_json=self.is_json)]
        if self.is_json and chance < LONG_SHARE + TRACEBACK_SHARE:
            return _traceback(rng)
        if self.is_json and chance < LONG_SHARE + TRACEBACK_SHARE + TEXT_SHARE:
            return [_plain(rng)]
        return [self.usual(rng)]


PINO = Application("pino", pino, is_json=True)
DJANGO = Application("django", django, is_json=True)
LOGURU = Application("loguru", loguru, is_json=True)
NGINX = Application("nginx", nginx, is_json=False)
PYTHON = Application("python", python, is_json=False)

# Ten containers of a node, in this order: about 70 % of the lines are JSON, 24 % text, 6 % tracebacks.
NODE_MIX = (PINO, NGINX, DJANGO, LOGURU, PINO, PYTHON, DJANGO, PINO, DJANGO, PINO)
