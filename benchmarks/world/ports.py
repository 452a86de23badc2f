"""Ports for servers that are stopped and started again, while clients try to reach them."""

import random
import socket

_ports = range(12_000, 32_000)  # below those that the kernel gives to clients
_given: set[int] = set()
_random = random.SystemRandom()  # whoever seeds `random` does not decide this


def keep_to_share(index: int, *, of: int) -> None:
    """Where several processes ask side by side, each gives the ports of its own share: none knows of the others'."""
    global _ports  # noqa: PLW0603 - it is the process's
    _ports = _ports[index % of :: of]


def free_port() -> int:
    """A port of loopback on which nobody listens, and that no client is given: neither some other one while the server
    is down, nor the server's own, which would then be connected with itself.

    None comes twice: who has asked for one may not listen yet, or may be about to listen again.
    """
    while True:
        port = _random.choice(_ports)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
