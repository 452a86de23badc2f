"""`kill -9` and power loss at any moment: the archive holds exactly the archived records, each once."""

import asyncio
import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.outputs.config import RetryConfig
from shipper.outputs.s3.bucket import Bucket
from shipper.outputs.s3.config import ObjectConfig, S3Config
from shipper.outputs.s3.manifest import Entry, Hour
from shipper.outputs.s3.output import S3Output
from shipper.outputs.s3.spool import SpooledObject
from shipper.template import Template
from tests.fakes.archive import unpack
from tests.fakes.bucket import Fate, MemoryBucket
from tests.fakes.host import FakeHost, State, batch_of, documents

Action = tuple[str, int]
ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2)),
    st.tuples(
        st.sampled_from(["commit", "close", "crash", "lose power", "hold commits", "release commits"]), st.just(0)
    ),
    st.tuples(st.just("run"), st.integers(1, 30)),
)
FATES = st.lists(st.sampled_from(["works", "works", "refused", "answer lost", "hangs"]), max_size=12)
TARGETS = [f"logs/{name}/{{id}}.ndjson" for name in ("bank", "shop", "test")]
PART_BYTES = 300  # so that most objects go up in parts


def make_config(compression: str) -> S3Config:
    ending = {"gzip": ".gz", "zstd": ".zst", "none": "", "parquet": ".parquet"}[compression]
    return S3Config(
        name="archive",
        bucket="logs",
        key=Template.parse("logs/{namespace}/{id}.ndjson" + ending),
        format="parquet" if compression == "parquet" else "ndjson",
        compression="none" if compression == "parquet" else compression,  # type: ignore[arg-type]
        object=ObjectConfig(max_bytes=1500, max_age=3600),
        retry=RetryConfig(initial=0.0001, max=0.001),
    )


class World:
    """The log, the bucket and the disk, which stay; the output and its host, which come and go."""

    def __init__(self, folder: Path, config: S3Config, bucket: MemoryBucket, seed: int) -> None:
        self.folder = folder
        self.config = config
        self.bucket = bucket
        self.random = random.Random(seed)
        self.state = State()

    async def start(self) -> None:
        async def open_bucket(_config: S3Config, _count: Callable[[str], None]) -> Bucket:
            return self.bucket

        self.output = S3Output(self.config, part_bytes=PART_BYTES, open_bucket=open_bucket)
        self.host = FakeHost(self.folder, self.output, self.state)
        await self.output.start(self.host)

    async def act(self, action: str, number: int) -> None:
        if action == "send":
            await self.send(number)
        elif action == "commit":
            self.host.commit()
        elif action == "close":
            self.output._spool.close_all()
            self.output._uploads.wake()
        elif action == "hold commits":
            self.host.holds.clear()
        elif action == "release commits":
            self.host.holds.set()
        elif action == "run":
            for _ in range(number):
                await asyncio.sleep(0.0001)
        else:
            await self.crash(with_power=action == "crash")

    async def send(self, number: int) -> None:
        """The next records of one or two logs, read from where the cursor stands."""
        pieces = []
        for target in {TARGETS[number], self.random.choice(TARGETS)}:
            name = target.split("/")[1]
            passed = sum(name.encode() in document for document in self.host.live.confirmed)
            pieces.append((self.target(target), documents(passed, self.random.randrange(1, 12), text=name)))
        await self.host.send(batch_of(*pieces))

    def target(self, target: str) -> str:
        return target + self.config.key.text.partition(".ndjson")[2]

    async def crash(self, *, with_power: bool) -> None:
        await self.output.close()
        self.state = self.host.state
        if not with_power:
            self.lose_what_was_not_synced()
        await self.start()

    def lose_what_was_not_synced(self) -> None:
        lengths = {row.id: row.length for row in map(_decode, self.state.spooled.values())}
        listed = [row for key, row in self.state.rows.items() if key not in self.state.spooled]
        lengths |= {row.name: row.length for row in map(_decode_hour, listed)}
        for path in (*(self.folder / "spool/archive").iterdir(), *(self.folder / "manifest/archive").iterdir()):
            kept = lengths.get(path.name, 0)
            content = path.read_bytes()
            cut = self.random.randrange(kept, len(content) + 1)
            path.write_bytes(content[:cut] + b"\0" * self.random.choice([0, 0, 7, 5000]))

    async def finish(self) -> None:
        self.bucket.fates.clear()
        self.host.holds.set()
        await self.output.close()  # a request may hang; the next process does not
        self.state = self.host.state
        await self.start()
        for number in range(3):
            await self.send(number)
        async with asyncio.timeout(100):
            await self.output.drain()
        self.host.commit()
        await self.output.close()


def _decode(encoded: bytes) -> SpooledObject:
    return msgspec.json.decode(encoded, type=SpooledObject)


def _decode_hour(encoded: bytes) -> Hour:
    return msgspec.json.decode(encoded, type=Hour)


def agrees(manifests: Mapping[str, bytes], objects: Mapping[str, bytes], state: State) -> None:
    """Each object is listed with what it is, and the sum of the lists is what the ledger says."""
    lines = [line for content in manifests.values() for line in content.splitlines()]
    listed = {entry.key: entry for entry in (msgspec.json.decode(line, type=Entry) for line in lines)}
    assert listed.keys() == objects.keys()
    for key, entry in listed.items():
        assert (entry.object_bytes, entry.sha256) == (len(objects[key]), hashlib.sha256(objects[key]).hexdigest())
        plain = unpack(key, objects[key])
        assert (entry.bytes, entry.records) == (len(plain), plain.count(b"\n"))
    containers = [container for entry in listed.values() for container in entry.containers]
    assert sum(container.records for container in containers) == state.uploaded_records
    archived = Counter[int]()
    for container in containers:
        archived[container.file] += container.bytes
    assert archived == state.uploaded


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    actions=st.lists(ACTIONS, max_size=25),
    fates=FATES,
    compression=st.sampled_from(["gzip", "zstd", "none", "parquet"]),
    tells_of_taken_keys=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_each_record_is_archived_once_whatever_breaks(
    actions: list[Action], fates: list[Fate], compression: str, tells_of_taken_keys: bool, seed: int
) -> None:
    async def scenario(folder: Path) -> None:
        bucket = MemoryBucket(tells_of_taken_keys=tells_of_taken_keys)
        bucket.fates.extend(fates)
        world = World(folder, make_config(compression), bucket, seed)
        await world.start()
        for action in actions:
            await world.act(*action)
        await world.finish()

        archived = [d for key, body in bucket.objects.items() for d in unpack(key, body).splitlines(keepends=True)]
        state = world.host.state
        assert sorted(archived) == sorted(state.confirmed)
        assert state.spooled == {}
        agrees(bucket.manifests, bucket.objects, state)
        assert state.uploaded == {1: sum(map(len, archived))}
        assert state.uploaded_records == len(archived)
        assert not state.lost
        assert list((folder / "spool/archive").iterdir()) == []
        assert not any(bucket.uploads.values()), "parts that nobody will ever complete"

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))
