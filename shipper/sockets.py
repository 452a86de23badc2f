"""Sockets of our connections, as aiohttp's `socket_factory` is asked for them: before they connect."""

import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType

_SYN_REPEATS = 1  # the kernel sends it again after a second, and waits two more
_UNPACED = b"reno"  # the one way to control congestion that every Linux has (tcp(7))


def make_socket(address: "AddrInfoType") -> socket.socket:
    """Not paced where the other end is on this machine, where nothing is ever congested.

    Where the system's choice is BBR, a timer would pace what is sent even there, at a fifth of all CPU that a backlog
    costs.
    """
    family, kind, protocol, _, place = address
    created = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_CONGESTION") and ip_address(place[0]).is_loopback:  # Linux
        with suppress(OSError):  # an administrator may have left it out of what is allowed
            created.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _UNPACED)
    return created


def make_impatient_socket(address: "AddrInfoType") -> socket.socket:
    """Gives up a connection after 3 s instead of two minutes, where the host does not even refuse: one that is switched
    off, or behind a firewall. The next host is asked then.
    """
    created = make_socket(address)
    if hasattr(socket, "TCP_SYNCNT"):  # Linux
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, _SYN_REPEATS)
    return created
