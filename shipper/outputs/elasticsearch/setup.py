"""`shipper setup`: shows what would change at the destination, and changes it. Touches nothing that it did not make."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
import orjson

from shipper.errors import ShipperError
from shipper.outputs.elasticsearch.client import Answer, ElasticsearchClient
from shipper.outputs.elasticsearch.config import ElasticsearchConfig, RetentionConfig
from shipper.outputs.elasticsearch.identify import Server, identify
from shipper.outputs.elasticsearch.index_template import (
    META,
    build_index_template,
    build_mappings,
    build_settings,
    differences,
    has_alias,
    index_pattern,
    mappings_name,
    patterns,
    rolls_over,
    settings_name,
    template_name,
    unmet,
)
from shipper.outputs.elasticsearch.lifecycle import DESCRIPTION, ilm_policy, ism_policy, plain_ism_policy


class Part:
    """One thing at the server, of which there should be exactly `wanted`.

    `of` takes it out of the server's answer to GET; `body` is what PUT takes.
    """

    def __init__(self, kind: str, name: str, path: str, wanted: Mapping[str, Any], *, about: str = "") -> None:
        self.kind, self.name, self.path, self.wanted, self.about = kind, name, path, wanted, about

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    right = "manage_index_templates"  # cluster privilege

    @property
    def body(self) -> Mapping[str, Any]:
        return self.wanted

    def of(self, answer: Any) -> Mapping[str, Any]:
        member = self.kind.replace(" ", "_")
        found: Mapping[str, Any] = answer[f"{member}s"][0][member]
        return found

    def is_ours(self, current: Mapping[str, Any]) -> bool:
        return bool(current.get("_meta", {}).get("managed_by") == META["managed_by"])

    def version(self, answer: Any) -> dict[str, str]:  # noqa: ARG002  of ISM alone
        """Query of the PUT that changes it."""
        return {}


class IlmPolicy(Part):
    right = "manage_ilm"

    @property
    def body(self) -> Mapping[str, Any]:
        return {"policy": self.wanted}

    def of(self, answer: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = answer[self.name]["policy"]
        return found


class IsmPolicy(Part):
    right = "cluster:admin/opendistro/ism/policy/write"

    @property
    def body(self) -> Mapping[str, Any]:
        return {"policy": self.wanted}

    def of(self, answer: Any) -> Mapping[str, Any]:
        return plain_ism_policy(answer["policy"])

    def is_ours(self, current: Mapping[str, Any]) -> bool:
        return bool(current["description"] == DESCRIPTION)

    def version(self, answer: Any) -> dict[str, str]:
        return {"if_seq_no": str(answer["_seq_no"]), "if_primary_term": str(answer["_primary_term"])}


def parts(config: ElasticsearchConfig, server: Server) -> Iterator[Part]:
    """In the order in which they need each other."""
    name = template_name(config.index)
    if config.retention is not None:
        yield _policy(config, config.retention, server)
    for each, wanted in (
        (mappings_name(name), build_mappings(server)),
        (settings_name(name), build_settings(config, server)),
    ):
        yield Part("component template", each, f"/_component_template/{_quoted(each)}", wanted)
    about = f" for {', '.join(patterns(config))}"
    wanted = build_index_template(config, server)
    yield Part("index template", name, f"/_index_template/{_quoted(name)}", wanted, about=about)


def _policy(config: ElasticsearchConfig, retention: RetentionConfig, server: Server) -> Part:
    name, does = template_name(config.index), rolls_over(config)
    if server.flavor == "elasticsearch":
        return IlmPolicy(
            "lifecycle policy", name, f"/_ilm/policy/{_quoted(name)}", ilm_policy(retention, rolls_over=does)
        )
    wanted = ism_policy(retention, pattern=patterns(config)[0], rolls_over=does)
    return IsmPolicy("lifecycle policy", name, f"/_plugins/_ism/policies/{_quoted(name)}", wanted)


async def setup(config: ElasticsearchConfig, *, dry_run: bool) -> list[str]:
    """Creates or updates what the output needs; what was done (or would be), as lines for a person.

    Raises ShipperError when that is not allowed, or something of such a name is another's: then nothing is changed,
    since all is looked at first. Disconnected without an answer.
    """
    if index_pattern(config.index).startswith("*"):
        raise ShipperError(f"{config.index}: a template for it would catch every index; begin it with a fixed word")
    client = ElasticsearchClient(config)
    try:
        return await _setup(client, config, dry_run=dry_run)
    finally:
        await client.close()


@dataclass(slots=True)
class _Change:
    """What is to be put where, and the lines that say so."""

    what: str
    path: str
    body: Mapping[str, Any]
    right: str
    lines: list[str]
    params: Mapping[str, str] = field(default_factory=dict)


async def _setup(client: ElasticsearchClient, config: ElasticsearchConfig, *, dry_run: bool) -> list[str]:
    server = await identify(client, config)
    if problem := unmet(config, server):
        raise ShipperError(problem)
    lines: list[str] = []
    changes: list[_Change] = []
    for part in parts(config, server):
        change = await _compare(client, part, dry_run=dry_run)
        lines += change.lines if change else [f"{part}: as it should be"]
        changes += [change] if change else []
    if not config.index.placeholders and rolls_over(config):
        begun = await _begin(client, config, dry_run=dry_run)
        lines += begun.lines if begun else [f"{_beginning(config)}: is there"]
        changes += [begun] if begun else []
    for change in [] if dry_run else changes:
        body = orjson.dumps(change.body) if change.body else None
        answer = await client.request("PUT", change.path, params=change.params, body=body)
        if answer.status not in (200, 201):
            raise ShipperError(f"{change.what} cannot be written: {explain(answer, change.right)}")
    if any(change.lines[0].endswith("changed") for change in changes):
        lines.append("indices that are there keep what they have; data streams take the new at their next rollover")
    return lines


async def _compare(client: ElasticsearchClient, part: Part, *, dry_run: bool) -> _Change | None:
    answer = await client.request("GET", part.path)
    if answer.status not in (200, 404):
        raise ShipperError(f"{part} cannot be read: {explain(answer, part.right)}")
    found = orjson.loads(answer.body) if answer.status == 200 else None
    current = part.of(found) if found is not None else None
    if current is not None and not part.is_ours(current):
        raise ShipperError(
            f"{part} is there, and shipper did not make it: it is left alone. Delete it, or give it "
            f'"_meta": {{"managed_by": "shipper"}}, if shipper may replace it'
        )
    changed = differences(current or {}, part.wanted)
    if not changed:
        return None
    done = ("would be " if dry_run else "") + ("created" if current is None else "changed")
    lines = [f"{part}{part.about}: {done}", *(f"  {line}" for line in changed)]
    version = part.version(found) if found is not None else {}
    return _Change(str(part), part.path, part.body, part.right, lines, version)


def _beginning(config: ElasticsearchConfig) -> str:
    return f"{'data stream' if config.data_stream else 'alias'} {config.index.text}"


async def _begin(client: ElasticsearchClient, config: ElasticsearchConfig, *, dry_run: bool) -> _Change | None:
    """The data stream or alias itself, where there is only one. It is never changed."""
    target = config.index.text
    place = "_alias" if has_alias(config) else "_data_stream"
    answer = await client.request("GET", f"/{place}/{_quoted(target)}")
    if answer.status == 200 and (has_alias(config) or orjson.loads(answer.body)["data_streams"]):
        return None
    if answer.status not in (200, 404):
        raise ShipperError(f"{_beginning(config)} cannot be read: {explain(answer, 'view_index_metadata')}")
    line = f"{_beginning(config)}: {'would be ' * dry_run}created"
    if has_alias(config) and (await client.request("GET", f"/{_quoted(target)}/_settings")).status == 200:
        raise ShipperError(f"an index {target} is there, whose place an alias cannot take: name another, or delete it")
    if not has_alias(config):
        return _Change(_beginning(config), f"/_data_stream/{_quoted(target)}", {}, "create_index", [line])
    first = f"{target}-000001"
    body = {"aliases": {target: {"is_write_index": True}}}
    return _Change(_beginning(config), f"/{_quoted(first)}", body, "create_index", [f"{line}, with {first}"])


async def find_template(client: ElasticsearchClient, name: str) -> dict[str, Any] | None:
    """Raises ShipperError when the server does not tell."""
    answer = await client.request("GET", f"/_index_template/{_quoted(name)}")
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise ShipperError(f"index template {name} cannot be read: {explain(answer, Part.right)}")
    templates = orjson.loads(answer.body)["index_templates"]
    found: dict[str, Any] = templates[0]["index_template"]
    return found


def explain(answer: Answer, right: str) -> str:
    if answer.status == 403:
        return f"these credentials need the privilege {right}"
    if answer.status == 401:
        return "the server does not accept these credentials"
    if b"no handler found for uri" in answer.body:
        return "this server has no such thing (is a plugin missing, such as OpenSearch's index management?)"
    try:
        reason = msgspec.json.decode(answer.body)["error"]["reason"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        reason = answer.body[:200].decode("utf-8", "replace")
    return f"status {answer.status}: {reason}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
