"""What became of a request that was not answered: asked of the indices themselves, before it is repeated.

Ids are unique within one index only, and behind a data stream or alias the index may have changed between the request
and its repeat. So each index that the request can have reached is asked for its ids by a realtime `_mget`; a search
would not see what was not refreshed yet. What is found was delivered, and only the rest is sent again.

It needs the rights to read and to see an index's settings. Without them the repeat goes out all the same, since a
record that is there twice is better than one that is missing; log and status say so.

https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-mget
"""

import logging
import time
from typing import NoReturn
from urllib.parse import quote

import msgspec

from shipper.delivery import Batch
from shipper.errors import Disconnected
from shipper.log import fields
from shipper.outputs.elasticsearch.backing import Document, creation_times, documents_of, question, reachable
from shipper.outputs.elasticsearch.client import Answer, ElasticsearchClient
from shipper.outputs.elasticsearch.judge import Cause, describe

log = logging.getLogger(__name__)

MOST_IDS = 10_000  # in one question
PATIENCE_S = 300.0  # an index that cannot be asked (a lost shard) keeps a batch for so long, and no longer
UNVERIFIED_SINCE = "unverified_since"  # key of Batch.memo: time.monotonic() of the first question without an answer
_GONE = "index_not_found_exception"  # deleted meanwhile: what it held does not count any more


class Unreadable(Exception):
    """The indices cannot be asked, and waiting does not help: a right is missing, an index is closed."""


class _Found(msgspec.Struct):
    found: bool = False
    error: Cause | None = None


class _Answer(msgspec.Struct):
    docs: list[_Found]


_decode = msgspec.json.Decoder(_Answer).decode
_MISSHAPEN = (msgspec.DecodeError, UnicodeDecodeError, ValueError)


class Verifier:
    """`sentence` says what is missing for it to work; empty while all is well.

    `must_know`: nothing is repeated unseen, whatever that costs.
    """

    def __init__(
        self, client: ElasticsearchClient, *, output: str, default_target: str, must_know: bool = False
    ) -> None:
        self.sentence = ""
        self._client, self._output, self._default_target = client, output, default_target
        self._must_know = must_know

    async def find(self, batch: Batch, *, in_plain_indices: bool = False) -> set[int] | None:
        """Which of its records an earlier attempt has brought there already; None when nobody can know.

        `in_plain_indices`: ask these too, though a repeat would learn it from them by itself.
        Raises Disconnected while the indices cannot be asked for now; with `must_know`, for as long as they cannot be.
        """
        try:
            found = await self._find(batch, in_plain_indices=in_plain_indices)
        except Unreadable as exc:
            if self._must_know:
                raise _unverified(str(exc)) from exc
            self._give_up(str(exc))
            return None
        except Disconnected as exc:
            if self._must_know or exc.reason != "unverified" or not _is_out_of_patience(batch):
                raise
            self._give_up(str(exc))
            return None
        self.sentence = ""
        batch.memo.pop(UNVERIFIED_SINCE, None)
        return found

    async def _find(self, batch: Batch, *, in_plain_indices: bool) -> set[int]:
        documents = documents_of(batch, self._default_target)
        since = batch.uncertain_since or time.time()
        by_target: dict[str, list[int]] = {}
        for i, document in enumerate(documents):
            by_target.setdefault(document.target, []).append(i)
        found: set[int] = set()
        for target, numbers in by_target.items():
            created = await self._indices(target)
            for index in reachable(target, created, since) or (created if in_plain_indices else ()):
                open_ = [i for i in numbers if i not in found]
                for start in range(0, len(open_), MOST_IDS):
                    asked = open_[start : start + MOST_IDS]
                    present = await self._ask(index, [documents[i] for i in asked])
                    found.update(i for i, is_there in zip(asked, present, strict=True) if is_there)
        return found

    async def _indices(self, target: str) -> dict[str, float]:
        """Index -> when it was made."""
        answer = await self._client.request(
            "GET",
            f"/{quote(target, safe='')}/_settings/index.creation_date",
            params={"filter_path": "*.settings.index.creation_date"},
        )
        if answer.status == 404:
            return {}
        if answer.status != 200:
            self._refused(answer, "view_index_metadata", target)
        try:
            return creation_times(answer.body)
        except _MISSHAPEN as exc:
            raise _unverified(f"what indices stand behind {target} is not told in a form that is known") from exc

    async def _ask(self, index: str, documents: list[Document]) -> list[bool]:
        params = {"realtime": "true", "_source": "false", "filter_path": "docs.found,docs.error"}
        path = f"/{quote(index, safe='')}/_mget"
        answer = await self._client.request("POST", path, params=params, body=question(documents))
        if answer.status == 404:
            return [False] * len(documents)
        if answer.status != 200:
            self._refused(answer, "read", index)
        try:
            found = _decode(answer.body).docs
        except _MISSHAPEN as exc:
            raise _unverified(f"{index} does not tell which documents it has") from exc
        if len(found) != len(documents):
            raise _unverified(f"{index} told of {len(found)} documents, not of {len(documents)}")
        for one in found:
            if one.error is not None:
                self._look_at(one.error, index)
        return [one.found for one in found]

    def _look_at(self, error: Cause, index: str) -> None:
        kind, words = describe(error)
        if kind == _GONE:
            return
        if kind == "security_exception":
            raise Unreadable(f"grant read on {index}: {words}")
        if kind == "index_closed_exception":
            raise Unreadable(f"{index} is closed")
        raise _unverified(f"{index} cannot be asked: {words or kind}")

    def _refused(self, answer: Answer, right: str, index: str) -> NoReturn:
        if answer.status == 401:
            raise Disconnected("the server does not accept these credentials", reason="auth", ambiguous=False)
        if answer.status == 403:
            raise Unreadable(f"these credentials lack {right} on {index}")
        if answer.status == 400:
            raise Unreadable(f"{index} cannot be asked (status 400)")
        raise _unverified(f"{index} cannot be asked (status {answer.status})")

    def _give_up(self, why: str) -> None:
        if not self.sentence:
            log.warning(
                "an unanswered request is repeated unseen: where its index has rolled over meanwhile, documents double",
                extra=fields(output=self._output, error=why),
            )
        self.sentence = f"repeats after a rollover may double documents: {why}"


def _unverified(sentence: str) -> Disconnected:
    return Disconnected(sentence, reason="unverified", ambiguous=False)


def _is_out_of_patience(batch: Batch) -> bool:
    since: float = batch.memo.setdefault(UNVERIFIED_SINCE, time.monotonic())
    return time.monotonic() - since > PATIENCE_S
