"""Checksums as S3 has them: sent with an object or part, checked by the server, and told by it ever after.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

import base64
import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Literal

from isal import isal_zlib

Checksum = Literal["crc32", "crc32c", "sha256"]

FIELDS: dict[Checksum, str] = {"crc32": "ChecksumCRC32", "crc32c": "ChecksumCRC32C", "sha256": "ChecksumSHA256"}


def checksum_of(kind: Checksum, body: bytes) -> str:
    """Base64, as headers and answers have it."""
    return base64.b64encode(_DIGESTS[kind](body)).decode()


def checksum_of_parts(kind: Checksum, checksums: Sequence[str]) -> str:
    """What the server tells of an object that went up in parts: the checksum of their checksums, and their number."""
    joined = b"".join(base64.b64decode(each) for each in checksums)
    return f"{checksum_of(kind, joined)}-{len(checksums)}"


def _crc32(body: bytes) -> bytes:
    return struct.pack(">I", isal_zlib.crc32(body))


def _crc32c(body: bytes) -> bytes:
    import google_crc32c  # only where it is asked for

    return struct.pack(">I", google_crc32c.value(body))


def _sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


_DIGESTS: dict[Checksum, Callable[[bytes], bytes]] = {"crc32": _crc32, "crc32c": _crc32c, "sha256": _sha256}
