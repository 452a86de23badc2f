"""What goes wrong around the daemon: single requests by chance, and whole servers for a while."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.torture.diary import Diary
from benchmarks.torture.pace import Pace
from benchmarks.world import s3_proxy
from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault, FaultKind
from benchmarks.world.kubernetes_api import FakeKubernetesApi, Trouble
from benchmarks.world.s3_proxy import S3Proxy

USER = "shipper"
ELASTICSEARCH_CHANCE = 0.3  # of a bulk request to meet a fault
S3_CHANCE = 0.3
SMALL_REQUEST_BYTES = 52_000  # as sent, while Elasticsearch refuses larger ones; no document alone is so large
PORT_TRIES, PORT_WAIT_S = 100, 0.2
CALM_S = (20.0, 240.0)  # simulated, between two episodes of one server
STORM_S = (20.0, 150.0)

# Left out: what no server says of a good request. `malformed` and `items_rejected` would be lies that cost the record,
# as would `too_large` of a single document; here requests are too large when they are.
ELASTICSEARCH_FAULTS: tuple[FaultKind, ...] = (
    "busy",
    "unavailable",
    "unauthorized",
    "forbidden",
    "proxy_page",
    "items_busy",
    "items_unavailable",
    "items_blocked",
    "failure_store",
    "fewer_items",
    "slow",
    "hang",
    "applied_then_hang",
    "reset",
    "applied_then_reset",
    "cut_answer",
    "cut_valid_answer",
    "roll_over",
    "applied_then_rolled_over",
)
RARE = ("hang", "applied_then_hang", "failure_store")  # the first two hold a request for a whole time-out


class Weather:
    """Storms until `calm` is called. `secret` and `token` are files that the daemon's configuration names."""

    def __init__(
        self,
        pace: Pace,
        *,
        seed: int,
        elasticsearch: FakeElasticsearch,
        s3: S3Proxy,
        api: FakeKubernetesApi,
        secret: Path,
        token: Path,
        diary: Diary,
    ) -> None:
        self.episodes = Counter[str]()
        self._pace, self._rng = pace, random.Random(f"weather {seed}")
        self._elasticsearch, self._s3, self._api = elasticsearch, s3, api
        self._secret, self._token, self._diary = secret, token, diary
        self._port = elasticsearch.port
        self._new_secret()
        replace_file(secret, self._password)
        self._new_token()
        replace_file(token, self._bearer)

    @property
    def faults(self) -> Counter[str]:
        """All that went wrong so far, by kind."""
        found = Counter(
            {f"elasticsearch {kind}": n for kind, n in Counter(self._elasticsearch.faults.injected).items()}
        )
        return found + Counter({f"s3 {kind}": n for kind, n in self._s3.injected.items()}) + self.episodes

    async def blow(self) -> None:
        """Endless."""
        self._begin_chances()
        async with asyncio.TaskGroup() as group:
            for server in (self._storm_elasticsearch, self._storm_s3, self._storm_api):
                group.create_task(self._storms(server, random.Random(self._rng.random())))

    def _begin_chances(self) -> None:
        weights = {kind: 0.3 if kind in RARE else 1.0 for kind in ELASTICSEARCH_FAULTS}
        share = ELASTICSEARCH_CHANCE / sum(weights.values())
        self._elasticsearch.faults.chances = {
            Fault(kind, delay_s=0.2, retry_after="1" if kind == "unavailable" else None): weight * share
            for kind, weight in weights.items()
        }
        self._s3.chances = dict.fromkeys(s3_proxy.FAULTS, S3_CHANCE / len(s3_proxy.FAULTS))

    async def _storms(self, server: Callable[[random.Random], Awaitable[None]], rng: random.Random) -> None:
        while True:
            await self._pace.wait(rng, *CALM_S)
            await server(rng)

    def _begin(self, episode: str) -> None:
        self.episodes[episode] += 1
        self._diary.note(episode)

    async def _storm_elasticsearch(self, rng: random.Random) -> None:
        fake, name = self._elasticsearch, rng.choice(("down", "secret", "small requests", "write block"))
        self._begin(f"elasticsearch {name}")
        if name == "down":
            await fake.stop()
        elif name == "secret":
            self._new_secret()
        elif name == "small requests":
            fake.max_content_length = SMALL_REQUEST_BYTES
        else:
            self._block(is_blocked=True)
        await self._pace.wait(rng, *STORM_S)
        await self._calm_elasticsearch()

    async def _calm_elasticsearch(self) -> None:
        await self._elasticsearch.stop()
        await start_again(lambda: self._elasticsearch.start(self._port))
        self._elasticsearch.max_content_length = None
        replace_file(self._secret, self._password)
        self._block(is_blocked=False)

    def _block(self, *, is_blocked: bool) -> None:
        for stream in self._elasticsearch.store.streams.values():
            stream.is_write_blocked = is_blocked

    def _new_secret(self) -> None:
        """The server takes only the new one from now on."""
        self._password = f"{self._rng.getrandbits(64):x}"
        self._elasticsearch.credentials = (USER, self._password)

    async def _storm_s3(self, rng: random.Random) -> None:
        self._begin("s3 down")
        await self._s3.stop()
        await self._pace.wait(rng, *STORM_S)
        await start_again(self._s3.start)

    async def _storm_api(self, rng: random.Random) -> None:
        name = rng.choice(("expired", "token", "forbidden", "hangs", "slow list", "unavailable", "restart", "poor"))
        self._begin(f"kubernetes {name}")
        trouble = self._api.trouble
        if name == "expired":
            self._api.expire()
            self._api.cut()
        elif name == "token":
            self._new_token()
            self._api.cut()
        elif name == "forbidden":
            trouble.forbidden = {"pods"}
            self._api.cut()
        elif name == "hangs":
            trouble.hangs = True
            self._api.cut()
        elif name == "slow list":
            trouble.list_delay_s, trouble.sends_initial_events_end = 0.5, False
            self._api.expire()
            self._api.cut()
        elif name == "unavailable":
            trouble.status, trouble.retry_after_s = 503, 1
            self._api.cut()
        elif name == "restart":
            await self._api.stop()
        else:
            trouble.sends_bookmarks = False
            self._api.cut()
        await self._pace.wait(rng, *STORM_S)
        if name == "restart":
            await start_again(self._api.start)
        self._calm_api()

    def _calm_api(self) -> None:
        self._api.trouble.hangs = False  # whoever hangs looks at this
        self._api.trouble = Trouble(tokens={self._bearer})
        replace_file(self._token, self._bearer)

    def _new_token(self) -> None:
        self._bearer = f"token-{self._rng.getrandbits(64):x}"
        self._api.trouble.tokens = {self._bearer}

    async def calm(self) -> None:
        """After `blow` was cancelled: all servers work, and nothing goes wrong any more."""
        self._elasticsearch.faults.chances = {}
        self._s3.chances = {}
        await self._calm_elasticsearch()
        await self._s3.stop()
        await start_again(self._s3.start)
        if not self._api.is_running:
            await start_again(self._api.start)
        self._calm_api()


async def start_again(start: Callable[[], Awaitable[None]]) -> None:
    """On the same port, which some other process's connection may have for a moment."""
    for _ in range(PORT_TRIES):
        try:
            return await start()
        except OSError:
            await asyncio.sleep(PORT_WAIT_S)
    return await start()


def replace_file(path: Path, text: str) -> None:
    """At once, as Kubernetes does with what a Secret holds."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)
