"""A node's container logs, seeded and fast: a tree of `/var/log/pods` with an account of every record in it.

    python -m benchmarks.world.generator DIR --mib 256 --pods 30 --seed 1

writes DIR/pods/<namespace>_<pod>_<uid>/<container>/0.log and DIR/account.json. Lines are rendered once, in blocks of a
second of one container's life; what varies from then on is the second and the sequence numbers, which one `%` per block
puts in.
"""

import argparse
import random
import shutil
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.world.account import Account, ContainerAccount
from benchmarks.world.applications import NODE_MIX, SEQ, Application, Record

BLOCK_RECORDS = 400
BLOCKS = 12  # different ones per application: about 140 KB each, so that no compressor sees one twice
INTERLEAVED = 2  # records of the other stream, at most, within one in parts
SECOND = (
    -1
)  # in a block's slots: the place of the second; other slots are sequence numbers relative to the block's first
_MINUTE = b"2026-11-21T%02d:%02d:"
_SERVICES = ("cart", "checkout", "search", "catalog", "payment", "mail", "auth", "stock", "report", "gateway")
_NAMESPACES = ("shop", "shop", "payments", "platform", "shop")


@dataclass(frozen=True, slots=True)
class PodPlan:
    """A pod of the node: what its path, its metadata and its application are."""

    namespace: str
    name: str
    uid: str
    container: str
    application: Application
    labels: dict[str, str]
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Of its first container's logs, within /var/log/pods."""
        return f"{self.namespace}_{self.name}_{self.uid}/{self.container}"

    def account(self) -> ContainerAccount:
        return ContainerAccount(
            namespace=self.namespace,
            pod=self.name,
            uid=self.uid,
            container=self.container,
            labels=self.labels,
            annotations=self.annotations,
        )


def plan_pods(count: int, rng: random.Random) -> list[PodPlan]:
    """A node's pods; with both labels that clash in a mapping, `app` and `app.kubernetes.io/name`."""
    plans = []
    for i in range(count):
        service = _SERVICES[i % len(_SERVICES)]
        revision = f"{rng.getrandbits(36):09x}"
        labels = {"app": service, "app.kubernetes.io/name": service, "pod-template-hash": revision}
        uid = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        name = f"{service}-{revision}-{rng.getrandbits(20):05x}"
        plans.append(
            PodPlan(_NAMESPACES[i % len(_NAMESPACES)], name, uid, service, NODE_MIX[i % len(NODE_MIX)], labels)
        )
    return plans


@dataclass(frozen=True, slots=True)
class Block:
    """CRI lines of `records` records as one `%` format; `slots` says what its arguments are."""

    template: bytes
    slots: tuple[int, ...]
    records: int
    kinds: Counter[str]
    streams: Counter[str]

    @property
    def lines(self) -> int:
        return self.slots.count(SECOND)

    def render(self, second: int, first_seq: int) -> bytes:
        minute = _MINUTE % (second // 3600 % 24, second // 60 % 60)
        at = b"%b%02d" % (minute, second % 60)
        return self.template % tuple([at if slot == SECOND else first_seq + slot for slot in self.slots])


def build_block(application: Application, rng: random.Random) -> Block:
    records: list[Record] = []
    while len(records) < BLOCK_RECORDS:
        records += application.draw(rng)
    lines = _arrange(records)
    fractions = sorted(rng.sample(range(1, 10**9), len(lines)))
    template, slots = bytearray(), []
    for (number, stream, tag, part), fraction in zip(lines, fractions, strict=True):
        content = part.replace(b"%", b"%%").replace(b"%d" % SEQ, b"%d")
        time_tail = f"{fraction:09d}".rstrip("0")  # containerd trims the zeros
        template += b"%b." + f"{time_tail}Z {stream} {tag} ".encode() + content + b"\n"
        slots += [SECOND, *[number] * part.count(b"%d" % SEQ)]
    kinds, streams = Counter(r.kind for r in records), Counter[str](r.stream for r in records)
    return Block(bytes(template), tuple(slots), len(records), kinds, streams)


def _arrange(records: list[Record]) -> list[tuple[int, str, str, bytes]]:
    """Lines as (number, stream, `P` or `F`, content). Records on stderr come before the last part of one on stdout."""
    lines: list[tuple[int, str, str, bytes]] = []
    waiting = deque(enumerate(records))
    while waiting:
        number, record = waiting.popleft()
        *parts, last = record.parts()
        lines += [(number, record.stream, "P", part) for part in parts]
        while parts and waiting and waiting[0][1].stream != record.stream and lines[-1][0] < number + INTERLEAVED:
            between, other = waiting.popleft()
            lines.append((between, other.stream, "F", other.content))
        lines.append((number, record.stream, "F", last))
    return lines


def build_blocks(applications: Iterable[Application], seed: int) -> dict[str, list[Block]]:
    return {
        a.name: [build_block(a, random.Random(f"{seed} {a.name} {n}")) for n in range(BLOCKS)] for a in applications
    }


def write_tree(folder: Path, *, total_bytes: int, pods: int, seed: int) -> Account:
    """Writes at least `total_bytes` of lines, of as many records in each container, and the account beside the tree.

    What was in `folder`/pods before is replaced.
    """
    rng = random.Random(seed)
    plans = plan_pods(pods, rng)
    blocks = build_blocks({plan.application for plan in plans}, seed)
    account = Account(seed=seed, containers=[plan.account() for plan in plans])
    shutil.rmtree(folder / "pods", ignore_errors=True)
    written = second = 0
    with ExitStack() as stack:
        files = []
        for plan in plans:
            path = folder / "pods" / plan.folder / "0.log"
            path.parent.mkdir(parents=True)
            files.append(stack.enter_context(path.open("wb")))
        while written < total_bytes:
            for plan, container, file in zip(plans, account.containers, files, strict=True):
                block = rng.choice(blocks[plan.application.name])
                data = block.render(second, container.records)
                file.write(data)
                _book(container, block, len(data))
                written += len(data)
            second += 1
    account.save(folder / "account.json")
    return account


def _book(container: ContainerAccount, block: Block, size: int) -> None:
    container.records += block.records
    container.lines += block.lines
    container.bytes += size
    container.kinds = dict(Counter(container.kinds) + block.kinds)
    container.streams = dict(Counter(container.streams) + block.streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=float, default=256)
    parser.add_argument("--pods", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    account = write_tree(options.folder, total_bytes=int(options.mib * 2**20), pods=options.pods, seed=options.seed)
    lines = sum(c.lines for c in account.containers)
    print(f"{account.records:,} records in {lines:,} lines, {account.bytes / 2**20:.0f} MiB, {options.folder}/pods")
    print(f"mean line {account.bytes / lines:.0f} bytes; {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
