"""`shipper audit --archive`: holds what is in the bucket against what the manifest says is there.

Reads only. Each object that is listed is asked for its size and checksum (with `deep`: read, and hashed); each that is
there must be listed; and what the ledger of this node has as archived must be listed too. Memory: some hundred bytes an
object of the chosen hours.
"""

import asyncio
import base64
import datetime as dt
import hashlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import msgspec

from shipper.audit import Account
from shipper.errors import ShipperError
from shipper.outputs.s3.bucket import Downloads, Head, Listed
from shipper.outputs.s3.config import S3Config
from shipper.outputs.s3.keys import fixed_folder
from shipper.outputs.s3.manifest import Entry, hour_of
from shipper.outputs.s3.trouble import THROTTLED, S3Error
from shipper.outputs.worker import Retry
from shipper.template import confine

T = TypeVar("T")

AT_ONCE = 16  # requests
ATTEMPTS = 6  # of a request, over some 15 s
GRACE_S = 600  # beyond `object.max_age`, until an object must be in the manifest
_INSTANT_S = 0.001
_HOUR = re.compile(r"/(\d{4}-\d\d-\d\dT\d\d)(?:-[^/]*)?\.jsonl$")
_ID = re.compile(r"(\d{8}T\d{6})\d{6}Z-[0-9a-f]{12}")  # as keys.new_id makes them
_PASSES = frozenset({THROTTLED, "timeout", "connection", "unreachable", "server"})
_ONLY_HERE = frozenset({"cold", "gone"})  # troubles of one object

Kind = Literal["missing", "extra", "damaged", "unlisted"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Difference(NamedTuple):
    kind: Kind
    key: str  # of an object; `unlisted`: a container
    why: str


class Ledger(NamedTuple):
    """What the node that the audit runs on knows by itself."""

    node: str
    accounts: Sequence[Account]
    lists: Mapping[str, bytes]  # the files below its state_dir, which may be ahead of those in the bucket


class Promise(NamedTuple):
    """What the manifest says of an object."""

    size: int
    sha256: str
    checksum: str
    records: int
    manifest: str  # where it says so


class Window(NamedTuple):
    """Whole hours, in epoch seconds; None: no bound."""

    since: float | None = None
    until: float | None = None

    def has_hour(self, hour: str) -> bool:
        """As `manifest.hour_of` writes it."""
        return (self.since is None or hour >= hour_of(self.since)) and (
            self.until is None or hour <= hour_of(self.until - _INSTANT_S)
        )


@dataclass(slots=True)
class Report:
    """Of one output's bucket."""

    output: str
    bucket: str
    manifests: int = 0
    objects: int = 0  # that are listed
    records: int = 0
    differences: list[Difference] = field(default_factory=list)
    recent: int = 0  # there, and not to be listed yet
    unread: int = 0  # not hashed, since their storage class must be restored first
    containers: int | None = None  # held against the ledger of this node

    def add(self, kind: Kind, key: str, why: str) -> None:
        self.differences.append(Difference(kind, key, why))


async def audit_archive(
    config: S3Config,
    bucket: Downloads,
    *,
    window: Window | None = None,
    deep: bool = False,
    ledger: Ledger | None = None,
    now: Callable[[], float] = time.time,
    retry: Retry | None = None,
) -> Report:
    """Raises ShipperError when the bucket cannot be read. `ledger`: only where all hours are chosen."""
    audit = _Audit(config, bucket, window or Window(), retry or Retry(), deep=deep, now=now)
    return await audit.run(ledger)


class _Audit:
    def __init__(
        self,
        config: S3Config,
        bucket: Downloads,
        window: Window,
        retry: Retry,
        *,
        deep: bool,
        now: Callable[[], float],
    ) -> None:
        if config.manifest is None:
            raise ShipperError(f"output {config.name} keeps no manifest (`manifest: off`), to hold its bucket against")
        self._config, self._bucket, self._retry = config, bucket, retry
        self._window = _without_expired(config, window, now())
        self._deep, self._now = deep, now
        self._prefix = config.manifest.prefix
        self._promises: dict[str, Promise] = {}
        self._archived = Counter[tuple[str, ...]]()  # bytes by node, output, namespace, pod, container or path
        self._report = Report(config.name, config.bucket)

    async def run(self, ledger: Ledger | None) -> Report:
        began = self._now()  # what comes while this runs is not to be listed
        async for listed in self._pages(self._prefix):
            await self._read_manifest(listed)
        if ledger is not None:
            for name, content in ledger.lists.items():
                self._take(content, name, confine(ledger.node, "key"))
            self._hold_against(ledger)
        self._report.objects = len(self._promises)
        self._report.records = sum(promise.records for promise in self._promises.values())
        left = iter(list(self._promises.items()))
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(self._check_all(left), name=f"check {number}")
        async for listed in self._pages(fixed_folder(self._config.key)):
            self._look_for_promise(listed, began)
        self._report.differences.sort()
        return self._report

    # -- what is promised ---------------------------------------------------------------------------------------------

    async def _read_manifest(self, listed: Listed) -> None:
        found = _HOUR.search(listed.key)
        if found is None or not self._window.has_hour(found[1]):
            return
        self._report.manifests += 1
        content = await self._patiently(lambda: self._content(listed))
        self._take(content, listed.key, listed.key.removeprefix(self._prefix).rpartition("/")[0])

    def _take(self, content: bytes, manifest: str, node: str) -> None:
        for number, line in enumerate(content.splitlines(), 1):
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._report.add("damaged", manifest, f"line {number} is not that of a manifest")
                continue
            self._promise(entry, manifest, node)

    def _promise(self, entry: Entry, manifest: str, node: str) -> None:
        """A crash may have left a line in two lists; they tell of the same object."""
        promise = Promise(entry.object_bytes, entry.sha256, entry.checksum, entry.records, manifest)
        known = self._promises.setdefault(entry.key, promise)
        if known[:2] != promise[:2]:
            self._report.add("damaged", manifest, f"says of {entry.key} something else than {known.manifest}")
        for each in entry.containers if known is promise else ():
            place = (each.namespace or "", each.pod or "", each.container or each.path or "")
            self._archived[node, entry.output, *place] += each.bytes

    def _hold_against(self, ledger: Ledger) -> None:
        """Lists stay when the ledger has forgotten a file, so they may only have more."""
        mine = [account for account in ledger.accounts if account.output == self._config.name]
        self._report.containers = len(mine)
        for account in mine:
            place = (account.namespace, account.pod, account.container or account.path)
            listed = self._archived[confine(ledger.node, "key"), account.output, *place]
            if listed < account.delivered:
                why = f"the ledger has {account.delivered} bytes as archived, the lists of {ledger.node} have {listed}"
                self._report.add("unlisted", "/".join(filter(None, place)), why)

    # -- what is there ------------------------------------------------------------------------------------------------

    async def _check_all(self, left: Iterator[tuple[str, Promise]]) -> None:
        for key, promise in left:
            head = await self._patiently(lambda key=key: self._bucket.head(key))  # type: ignore[misc]
            if head is None:
                self._report.add("missing", key, f"{promise.records} records, by {promise.manifest}")
            elif why := judge(promise, head):
                self._report.add("damaged", key, why)
            elif self._deep:
                await self._check_bytes(key, promise)

    async def _check_bytes(self, key: str, promise: Promise) -> None:
        try:
            found = await self._patiently(lambda: self._digest(Listed(key, promise.size, 0.0, "")))
        except S3Error as exc:
            if exc.trouble.reason == "gone":
                self._report.add("missing", key, exc.trouble.sentence)
            else:
                self._report.unread += 1
            return
        if found != promise.sha256:
            self._report.add("damaged", key, f"its SHA-256 is {found}, and not {promise.sha256}")

    def _look_for_promise(self, listed: Listed, began: float) -> None:
        key = listed.key
        is_beside = key.startswith(self._prefix) or key.endswith("/") or "/.shipper-check-" in f"/{key}"
        if is_beside or key in self._promises or not self._window.has_hour(_hour_of(listed)):
            return
        if listed.modified > began - self._config.object.max_age - GRACE_S:
            self._report.recent += 1
        else:
            self._report.add("extra", key, f"{listed.size} bytes, in no manifest")

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _pages(self, prefix: str) -> AsyncIterator[Listed]:
        after = ""
        while page := await self._patiently(lambda: self._bucket.page(prefix, after=after)):  # noqa: B023
            for listed in page:
                yield listed
            after = page[-1].key

    async def _content(self, listed: Listed) -> bytes:
        async with aclosing(self._bucket.read(listed, 0)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def _digest(self, listed: Listed) -> str:
        digest = hashlib.sha256()
        async with aclosing(self._bucket.read(listed, 0)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(digest.update, piece)
        return digest.hexdigest()

    async def _patiently(self, request: Callable[[], Awaitable[T]]) -> T:
        """Raises S3Error for what concerns one object only, else ShipperError, with what may mend it."""
        attempt = 0
        while True:
            try:
                return await request()
            except S3Error as exc:
                if exc.trouble.reason in _ONLY_HERE:
                    raise
                if exc.trouble.reason not in _PASSES or attempt + 1 >= ATTEMPTS:
                    raise ShipperError("; ".join(filter(None, (exc.trouble.sentence, exc.trouble.mend)))) from exc
                await asyncio.sleep(max(self._retry.delay_s(attempt), exc.delay_s))
                attempt += 1


def _without_expired(config: S3Config, window: Window, now: float) -> Window:
    """The bucket's own rules may have deleted what is older."""
    if config.lifecycle is None or config.lifecycle.expire is None:
        return window
    oldest = now - config.lifecycle.expire + 3600
    return window._replace(since=oldest if window.since is None else max(oldest, window.since))


def judge(promise: Promise, head: Head) -> str:
    """What is wrong with an object; empty where nothing is, as far as the server tells."""
    if head.size != promise.size:
        return f"has {head.size} bytes, and not {promise.size}"
    kind, _, told = promise.checksum.partition(":")
    found = {str(kind): checksum for kind, checksum in head.checksums.items()}.get(kind, told)
    if "-" in found and "-" in told and found != told:  # of parts
        return f"its {kind} is {found}, and not {told}"
    if "-" not in found + told and found != told:
        return f"its {kind} is {found}, and not {told}"
    whole = head.checksums.get("sha256", "-")
    if "-" not in whole and base64.b64decode(whole).hex() != promise.sha256:
        return f"its SHA-256 is {base64.b64decode(whole).hex()}, and not {promise.sha256}"
    return ""


def _hour_of(listed: Listed) -> str:
    """The hour in whose manifest it should be: that in which it was begun, by its id."""
    found = _ID.search(listed.key)
    if found is None:
        return hour_of(listed.modified)
    return hour_of(dt.datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC).timestamp())


# -- for people and programs ------------------------------------------------------------------------------------------


def problems(reports: Sequence[Report]) -> list[str]:
    return [f"{each.kind} {each.key}: {each.why}" for report in reports for each in report.differences]


def as_text(reports: Sequence[Report]) -> str:
    lines = []
    for report in reports:
        lines += [f"{each.kind:8} {each.key}: {each.why}" for each in report.differences]
        lines.append(
            f"output {report.output}, bucket {report.bucket}: {report.objects} objects with {report.records} records "
            f"are listed in {report.manifests} manifests; {_counts(report)}"
        )
        if report.containers is not None:
            lines.append(f"  {report.containers} containers of this node were held against its ledger")
        if report.recent:
            lines.append(f"  {report.recent} objects came just now, and are not listed yet")
        if report.unread:
            lines.append(f"  {report.unread} objects were not read: their storage class must be restored first")
    return "\n".join(lines)


def _counts(report: Report) -> str:
    kinds = [difference.kind for difference in report.differences]
    if not kinds:
        return "the bucket is as they say"
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds)


def as_json(reports: Sequence[Report]) -> Mapping[str, Any]:
    return {
        "outputs": [
            {
                "output": report.output,
                "bucket": report.bucket,
                "manifests": report.manifests,
                "objects": report.objects,
                "records": report.records,
                "recent": report.recent,
                "unread": report.unread,
                "containers": report.containers,
                **{
                    kind: [{"key": each.key, "why": each.why} for each in report.differences if each.kind == kind]
                    for kind in KINDS
                },
            }
            for report in reports
        ],
        "problems": problems(reports),
    }
