"""What is given to the SDK, and to the HTTP library below it."""

from aiohttp.payload import BytesIOPayload

from shipper.outputs.s3.api import Sent


def test_a_body_is_not_copied_to_learn_its_size() -> None:
    body = bytes(1000)
    sent = Sent(body)
    assert BytesIOPayload(sent).size == len(body)
    assert sent.getbuffer().obj is body
    assert sent.getvalue() is body  # a buffer of BytesIO's own would have parted the two
