"""Checksums against their published check values, and as S3 puts those of parts together."""

import base64

import pytest

from shipper.outputs.s3.checksum import Checksum, checksum_of, checksum_of_parts

CHECK = b"123456789"  # of https://reveng.sourceforge.io/crc-catalogue/, and of FIPS 180-4 implementations


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("crc32", "cbf43926"),
        ("crc32c", "e3069283"),
        ("sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ],
)
def test_a_checksum_is_the_published_one(kind: Checksum, value: str) -> None:
    assert base64.b64decode(checksum_of(kind, CHECK)).hex() == value


def test_that_of_parts_is_the_checksum_of_theirs_and_their_number() -> None:
    parts = [checksum_of("crc32", b"1234"), checksum_of("crc32", b"56789")]
    joined = b"".join(base64.b64decode(part) for part in parts)
    assert checksum_of_parts("crc32", parts) == f"{checksum_of('crc32', joined)}-2"
