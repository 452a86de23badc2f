"""How sockets of connections are made."""

import socket

import pytest

from shipper.sockets import make_impatient_socket, make_socket


def congestion_control(made: socket.socket) -> bytes:
    with made:
        return made.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="Linux tells and lets choose")
@pytest.mark.parametrize(
    ("host", "family", "is_near"),
    [
        ("127.0.0.1", socket.AF_INET, True),
        ("127.8.0.1", socket.AF_INET, True),
        ("::1", socket.AF_INET6, True),
        ("192.0.2.1", socket.AF_INET, False),
        ("2001:db8::1", socket.AF_INET6, False),
        ("fe80::1%eth0", socket.AF_INET6, False),
    ],
)
def test_only_what_is_sent_on_this_machine_is_not_paced(host: str, family: socket.AddressFamily, is_near: bool) -> None:
    usual = congestion_control(socket.socket())
    place = (host, 9200) if family == socket.AF_INET else (host, 9200, 0, 0)
    for make in (make_socket, make_impatient_socket):
        made = make((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place))
        assert congestion_control(made) == (b"reno" if is_near else usual)
