"""Who a file is: a fingerprint of its first bytes, decompressed. Paths and inodes are only hints.

The kubelet renames, gzips and deletes; ext4 gives a freed inode to the next file nine times in ten. A container's first
line has its time to the nanosecond, so the first bytes tell generations apart.
"""

import hashlib
from typing import NamedTuple

FINGERPRINT_BYTES = 1024


class Fingerprint(NamedTuple):
    """Hash of the first `length` bytes; it is extended as the file grows, and never part of an id."""

    length: int = 0
    digest: str = ""

    @classmethod
    def of(cls, head: bytes) -> "Fingerprint":
        head = head[:FINGERPRINT_BYTES]
        length = FINGERPRINT_BYTES if len(head) == FINGERPRINT_BYTES else len(head)  # one object for many
        return cls(length, hashlib.blake2b(head, digest_size=16).hexdigest()) if head else cls()

    def fits(self, head: bytes) -> bool:
        """Whether a file that begins with `head` can be the one that this was taken of. Never for an empty one."""
        return 0 < self.length <= len(head) and Fingerprint.of(head[: self.length]) == self


NO_FINGERPRINT = Fingerprint()  # fits nothing
