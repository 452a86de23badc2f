"""What the sink in C sums up of each pod's documents, done slowly: for tests, and to read about.

A document's hash is that of what it has in common with the same record of a copy of its pod (benchmarks.world.copies):
of its id what stands behind the last dash, its place in the file; and all of it but the pod's name and uid. Sums of
hashes are the same for the same documents in any order, each as often.
"""

from collections.abc import Iterable

from benchmarks.world.check import bulk_documents

Sums = dict[str, tuple[int, int]]  # by uid: documents, and the sum of their hashes

_WORD = (1 << 64) - 1


def sums_of(bodies: Iterable[bytes]) -> Sums:
    """Of bulk requests. The uid of what carries none is `-`."""
    sums: Sums = {}
    for body in bodies:
        actions = body.split(b"\n")[0::2]
        for action, (_, document) in zip(actions, bulk_documents(body), strict=False):
            uid, hashed = _hash(action, document)
            documents, total = sums.get(uid, (0, 0))
            sums[uid] = documents + 1, (total + hashed) & _WORD
    return sums


def _hash(action: bytes, document: bytes) -> tuple[str, int]:
    dash = action.rfind(b"-")
    hashed = _mixed_part(0, action[max(dash, 0) :])
    before, found, metadata = document.partition(b'"kubernetes":{')
    _, has_id, rest = metadata.partition(b'"pod_id":"')
    uid, has_name, behind = rest.partition(b'","container_name":')
    if not (found and has_id and has_name):
        return "-", _mixed_part(hashed, document)
    return uid.decode(), _mixed_part(_mixed_part(hashed, before), b'"container_name":' + behind)


def _mixed_part(hashed: int, part: bytes) -> int:
    hashed = _mixed(hashed, len(part))
    for start in range(0, len(part), 8):
        hashed = _mixed(hashed, int.from_bytes(part[start : start + 8], "little"))
    return hashed


def _mixed(hashed: int, word: int) -> int:
    product = (hashed ^ word) * 0x9E3779B97F4A7C15 & _WORD
    return product ^ product >> 29
