"""What is given to the SDK, and to the HTTP library below it."""

import pytest
from aiohttp.payload import BytesIOPayload

from shipper.outputs.s3.api import Sent, needs_certificates


def test_a_body_is_not_copied_to_learn_its_size() -> None:
    body = bytes(1000)
    sent = Sent(body)
    assert BytesIOPayload(sent).size == len(body)
    assert sent.getbuffer().obj is body
    assert sent.getvalue() is body  # a buffer of BytesIO's own would have parted the two


@pytest.mark.parametrize(
    ("endpoint", "proxy", "wanted"),
    [
        (None, "", True),
        ("https://s3.example:9000", "", True),
        ("http://s3.example:9000", "", False),
        ("http://s3.example:9000", "https://proxy.example", True),
    ],
)
def test_what_the_machine_trusts_is_read_only_where_something_is_encrypted(
    endpoint: str | None, proxy: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"http": proxy} if proxy else {})
    assert needs_certificates(endpoint) is wanted
