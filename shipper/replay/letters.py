"""Sends dead letters again, through the outputs that they were for: what a person has mended is taken then.

Runs beside the daemon, whose cursors it leaves alone: a letter that is taken is marked in the store, the others stay.
Replay is idempotent, since a document goes out under the id that it had: one that is there already counts as taken.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

from shipper.config.model import Config
from shipper.dead_letters import DeadLetter, DeadLetters
from shipper.delivery import Piece
from shipper.errors import ShipperError
from shipper.ledger import DELIVERED
from shipper.outputs.base import Output
from shipper.parts import make_output
from shipper.record import Ranges, Source
from shipper.replay.sender import PATIENCE_S, NothingTaken, Sender

PAGE = 100  # letters in memory at once


async def replay_letters(
    config: Config,
    *,
    output: str | None = None,
    reason: str | None = None,
    namespace: str | None = None,
    since: float | None = None,
    until: float | None = None,
    limit: int = 1000,
    patience_s: float = PATIENCE_S,
) -> tuple[int, int]:
    """-> (letters that were delivered, letters that were refused again), of up to `limit` that fit.

    `since` <= time of the rejection < `until`, in seconds since the epoch.
    Letters of outputs that are not configured stay. Raises NothingTaken, after marking what was delivered until then;
    ShipperError when there is no output of that name; StateError when the store cannot be used.
    """
    chosen = [o for o in config.outputs if output is None or o.name == output]
    if not chosen:
        names = ", ".join(o.name for o in config.outputs)
        raise ShipperError(f"there is no output {output} in this configuration; there are {names}")
    store = await asyncio.to_thread(DeadLetters.open_beside, config.service.state_dir)
    delivered = refused = 0
    try:
        for each in chosen:
            select = partial(
                store.select, output=each.name, reason=reason, namespace=namespace, since=since, until=until
            )
            if not await asyncio.to_thread(partial(select, limit=1)):
                continue
            sender = Sender(each, make_output(each), state_dir=config.service.state_dir, patience_s=patience_s)
            replay = _Replay(sender, store)
            await replay.run(select, limit - delivered - refused)
            delivered, refused = delivered + replay.delivered, refused + replay.refused
    finally:
        await asyncio.to_thread(store.close)
    return delivered, refused


class _Replay:
    """The letters of one output, page by page."""

    def __init__(self, sender: Sender, store: DeadLetters) -> None:
        self.delivered = self.refused = 0
        self._sender, self._store = sender, store

    async def run(self, select: Callable[..., list[DeadLetter]], limit: int) -> None:
        async with self._sender.working():
            is_answered = await self._send_pages(select, limit)
        if not is_answered:
            raise NothingTaken(
                f"{self._sender.silence()}; {self.delivered} dead letters were delivered, the others stay"
            )

    async def _send_pages(self, select: Callable[..., list[DeadLetter]], limit: int) -> bool:
        """-> whether every letter was answered."""
        after = 0
        while page := await asyncio.to_thread(partial(select, after=after, limit=min(PAGE, limit))):
            after, limit = page[-1].id, limit - len(page)
            fates = [self._add(letter) for letter in page]
            # A replay that was killed may have delivered some of them and not marked them; since then the index behind
            # their data stream may have become another one, which does not know their ids.
            self._sender.worker.doubt(min(letter.time for letter in page))
            is_answered = await self._sender.is_answered()
            await self._mark(fates)
            if not is_answered:
                return False
        return True

    def _add(self, letter: DeadLetter) -> "_Fate":
        fate, body = _Fate(letter), self._sender.worker.body
        start = len(body)
        body += frame(letter, self._sender.output)
        piece = Piece(
            target=letter.target,
            start=start,
            end=len(body),
            records=1,
            source=Source("", letter.path, letter.namespace, letter.pod, None, letter.container),
            span=fate,
            source_bytes=letter.source_bytes,
            places=((letter.begin, letter.end, letter.source_bytes),),
        )
        self._sender.worker.add([piece])
        return fate

    async def _mark(self, fates: Sequence["_Fate"]) -> None:
        taken = [fate.letter.id for fate in fates if fate.is_taken]
        await asyncio.to_thread(self._store.mark_replayed, taken)
        self.delivered += len(taken)
        self.refused += sum(fate.is_taken is False for fate in fates)


def frame(letter: DeadLetter, output: Output) -> bytes:
    """The letter's document as the output takes it. One that had no id gets one, which is the same at every replay."""
    head, opening = output.frame(letter.target)
    if head is None:
        return opening + letter.document[1:] + b"\n"
    own = f"{letter.path}\0{letter.generation}\0{letter.begin}\0{letter.end}".encode()
    document_id = letter.document_id or blake2b(own + letter.document, digest_size=16).hexdigest()
    return head + document_id.encode() + opening + letter.document[1:] + b"\n"


@dataclass(slots=True)
class _Fate:
    """Hears what became of one letter; shipper.delivery.Span."""

    letter: DeadLetter
    is_taken: bool | None = None

    @property
    def generation(self) -> int:
        return self.letter.generation

    def shares(self, source_bytes: int) -> Mapping[int, int]:
        return {self.generation: source_bytes}

    def ranges(self) -> Mapping[int, Ranges]:
        return {self.generation: ((self.letter.begin, self.letter.end),)}

    def answer(self, records: int, rejected_bytes: int = 0, fate: str = DELIVERED) -> None:  # noqa: ARG002
        self.is_taken = not rejected_bytes
