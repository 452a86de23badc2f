"""Asks the daemon that runs beside a command, over its own HTTP server; with the standard library, which loads fast."""

import http.client
import json
from typing import Any

TIMEOUT_S = 5.0
MOST_BYTES = 256 * 2**20
ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # where it listens on all addresses


class NoAnswer(Exception):
    """Its text says why, as a sentence's end."""


def ask_daemon(listen: str, path: str, *, state_dir: str) -> Any:
    """`listen` as in `service.http.listen`. Only one that works on `state_dir` is meant. Raises NoAnswer."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(ANY.get(host, host), int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        raise NoAnswer(f"no daemon answers at {listen} ({exc})") from exc
    finally:
        connection.close()
    if answer.status != 200:
        raise NoAnswer(f"what answers at {listen} says {answer.status}")
    try:
        said = json.loads(body)
    except ValueError as exc:
        raise NoAnswer(f"what answers at {listen} is no shipper") from exc
    if not isinstance(said, dict) or said.get("state_dir") != state_dir:
        raise NoAnswer(f"what answers at {listen} works on another state directory")
    return said
