"""One suite over the fake and the real servers: what the output relies on, and that the fake tells the truth.

A class a server; what only some servers have is in mixed-in suites.
"""

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from shipper.body import view_of
from shipper.delivery import Batch, Delivery
from shipper.errors import Disconnected, ShipperError
from shipper.outputs.elasticsearch.client import ElasticsearchClient
from shipper.outputs.elasticsearch.config import (
    AuthConfig,
    ElasticsearchConfig,
    RetentionConfig,
    SetupConfig,
    TlsConfig,
)
from shipper.outputs.elasticsearch.index_template import template_name
from shipper.outputs.elasticsearch.output import ElasticsearchOutput
from shipper.outputs.elasticsearch.setup import setup
from shipper.template import Template
from shipper.values import Secret
from tests.fakes.silent_proxy import silent_proxy
from tests.outputs.elasticsearch.batches import TIME, FakeHost, batch_of, documents, subset_of
from tests.servers.elasticsearch import Elasticsearch, Elasticsearch8
from tests.servers.opensearch import OpenSearch, OpenSearch3, SecureOpenSearch
from tests.servers.search_server import SearchServer

NOBODY = AuthConfig()
NO_CA = TlsConfig()
DAY = 86400.0


@dataclass
class Destination:
    """A server under test. `admin` may do everything, `writer` only append to logs-*, `shipper` read there as well."""

    url: str
    flavor: str
    admin: AuthConfig = NOBODY
    writer: AuthConfig = NOBODY
    shipper: AuthConfig = NOBODY
    tls: TlsConfig = NO_CA
    outputs: list[ElasticsearchOutput] = field(default_factory=list)

    def config(self, index: str, auth: AuthConfig | None = None, **other: Any) -> ElasticsearchConfig:
        common = {"hosts": (self.url,), "index": Template.parse(index), "auth": auth or self.admin, "tls": self.tls}
        return ElasticsearchConfig(**common | other)  # type: ignore[arg-type]

    async def output(self, index: str, auth: AuthConfig | None = None, **other: Any) -> ElasticsearchOutput:
        output = ElasticsearchOutput(self.config(index, auth, **other))
        await output.start(FakeHost())
        self.outputs.append(output)
        return output

    async def ask(self, method: str, path: str, content: Any = None) -> Any:
        """One request as admin; its answer must be 200."""
        client = ElasticsearchClient(self.config("x"))
        try:
            body = orjson.dumps(content) if content is not None else None
            answer = await client.request(method, path, body=body)
        finally:
            await client.close()
        assert answer.status == 200, answer
        return orjson.loads(answer.body)

    async def rolling(self, kind: str, name: str) -> str:
        """A target that can roll over: a data stream, or an alias."""
        if kind == "data_stream":
            await setup(self.config(f"logs-{{namespace}}-{name}"), dry_run=False)
            return f"logs-shop-{name}"
        await self.ask("PUT", f"/logs-{name}-000001", {"aliases": {f"logs-{name}": {"is_write_index": True}}})
        return f"logs-{name}"

    async def count(self, index: str, query: Any = None) -> int:
        await self.ask("POST", f"/{index}/_refresh")
        found: int = (await self.ask("POST", f"/{index}/_count", {"query": query or {"match_all": {}}}))["count"]
        return found


def basic(username: str, password: str) -> AuthConfig:
    return AuthConfig(username=username, password=Secret(password))


def destination_of(server: SearchServer, flavor: str, *, has_users: bool = True) -> Destination:
    tls = TlsConfig(ca_file=str(server.ca_file) if server.ca_file else None)
    if not has_users:
        return Destination(server.url, flavor, tls=tls)
    admin = basic(server.user, server.password)
    writer = basic(server.writer_user, server.writer_password)
    return Destination(server.url, flavor, admin, writer, basic(server.shipper_user, server.writer_password), tls)


@pytest.fixture
def name() -> str:
    """Of an index that nobody else uses; as the suffix of a data stream's name as well."""
    return f"c{uuid.uuid4().hex[:12]}"


class Contract:
    """For every server."""

    @pytest.fixture
    async def at(self, destination: Destination) -> AsyncIterator[Destination]:
        yield destination
        for output in destination.outputs:
            await output.close()

    @pytest.mark.parametrize("compression", ["gzip", "none"])
    async def test_documents_arrive(self, at: Destination, name: str, compression: str) -> None:
        output = await at.output(name, data_stream=False, compression=compression)
        delivery = await output.send(batch_of(output, documents(1000), target=name))
        assert (delivery.retry, delivery.rejected, delivery.duplicates) == ((), (), 0)
        assert await at.count(name) == 1000

    async def test_more_than_a_write_buffer_arrives_in_one_piece(self, at: Destination, name: str) -> None:
        output = await at.output(name, data_stream=False, compression="none")
        sources = [orjson.dumps({"m": "x" * 100_000, "n": number}) for number in range(30)]
        assert not (await output.send(batch_of(output, sources, target=name))).retry
        assert await at.count(name) == 30

    async def test_the_same_documents_again_are_duplicates(self, at: Destination, name: str) -> None:
        output = await at.output(name, data_stream=False)
        batch = batch_of(output, documents(5), target=name)
        await output.send(batch)
        delivery = await output.send(batch)
        assert (delivery.retry, delivery.rejected, delivery.duplicates) == ((), (), 5)
        assert await at.count(name) == 5

    async def test_without_ids_they_are_appended(self, at: Destination, name: str) -> None:
        output = await at.output(name, data_stream=False, ids="none")
        batch = batch_of(output, documents(5), target=name)
        await output.send(batch)
        assert (await output.send(batch)).duplicates == 0
        assert await at.count(name) == 10

    async def test_one_request_reaches_several_indices(self, at: Destination, name: str) -> None:
        output = await at.output(f"{name}-{{namespace}}", data_stream=False)
        batch = batch_of(output, documents(2), target=f"{name}-shop")
        other = batch_of(output, documents(3), target=f"{name}-bank")
        batch.body += bytes(view_of(other.body))
        batch.records += other.records
        assert not (await output.send(batch)).retry
        assert await at.count(f"{name}-shop") == 2
        assert await at.count(f"{name}-bank") == 3

    async def test_a_value_that_does_not_fit_rejects_its_document_alone(self, at: Destination, name: str) -> None:
        await at.ask("PUT", f"/{name}", {"mappings": {"properties": {"n": {"type": "long"}}}})
        output = await at.output(name, data_stream=False)
        delivery = await output.send(batch_of(output, [b'{"n":1}', b'{"n":"many"}', b'{"n":3}'], target=name))
        assert [rejection.index for rejection in delivery.rejected] == [1]
        assert delivery.rejected[0].reason in ("document_parsing_exception", "mapper_parsing_exception")
        assert "failed to parse field [n] of type [long]" in delivery.rejected[0].detail
        assert delivery.retry == ()
        assert await at.count(name) == 2

    async def test_equal_keys_ask_for_another_encoding(self, at: Destination, name: str) -> None:
        output = await at.output(name, data_stream=False)
        sources = [b'{"a":1}', b'{"a":1,"b":{"c":1,"c":2}}', b'{"a":1,"a":2}']
        delivery = await output.send(batch_of(output, sources, target=name))
        assert (delivery.retry, delivery.reencode, delivery.rejected) == ((1, 2), (1, 2), ())

    async def test_a_write_block_loses_nothing(self, at: Destination, name: str) -> None:
        output = await at.output(name, data_stream=False)
        await output.send(batch_of(output, documents(1), target=name))
        await at.ask("PUT", f"/{name}/_settings", {"index.blocks.write": True})
        batch = batch_of(output, documents(2), target=name)
        delivery = await output.send(batch)
        assert (delivery.retry, delivery.reason) == ((0, 1), "blocked")
        await at.ask("PUT", f"/{name}/_settings", {"index.blocks.write": False})
        assert not (await output.send(batch)).retry
        assert await at.count(name) == 3

    async def test_setup_can_be_repeated(self, at: Destination, name: str) -> None:
        config = at.config(f"logs-{{namespace}}-{name}")
        template = f"shipper-logs-any-{name}"
        made = (f"component template {template}-mappings", f"component template {template}-settings")
        would = await setup(config, dry_run=True)
        assert [line for line in would if not line.startswith("  ")] == [
            *(f"{each}: would be created" for each in made),
            f"index template {template} for logs-*-{name}: would be created",
        ]
        assert any("kubernetes.properties.labels.type: fla" in line for line in would)
        assert await setup(config, dry_run=False) == [line.replace("would be ", "") for line in would]
        as_it_should_be = [f"{each}: as it should be" for each in (*made, f"index template {template}")]
        assert await setup(config, dry_run=False) == as_it_should_be

    async def test_setup_changes_what_it_made(self, at: Destination, name: str) -> None:
        config = at.config(f"logs-{{namespace}}-{name}")
        await setup(config, dry_run=False)
        path = f"/_index_template/shipper-logs-any-{name}"
        template = (await at.ask("GET", path))["index_templates"][0]["index_template"]
        for bookkeeping in ("created_date_millis", "modified_date_millis"):
            template.pop(bookkeeping, None)
        template["priority"] = 177
        await at.ask("PUT", path, template)
        more = at.config(f"logs-{{namespace}}-{name}", setup=SetupConfig(max_fields=2000))
        lines = await setup(more, dry_run=False)
        assert [line for line in lines if "should be" not in line] == [
            f"component template shipper-logs-any-{name}-settings: changed",
            "  ~ template.settings.index.mapping.total_fields.limit: 1000 -> 2000",
            f"index template shipper-logs-any-{name} for logs-*-{name}: changed",
            "  ~ priority: 177 -> 200",
            "indices that are there keep what they have; data streams take the new at their next rollover",
        ]
        assert (await at.ask("GET", path))["index_templates"][0]["index_template"]["priority"] == 200
        assert all(line.endswith("as it should be") for line in await setup(more, dry_run=True))

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("_index_template/shipper-logs-any-{}", {"index_patterns": ["logs-*-{}"], "priority": 300}),
            ("_component_template/shipper-logs-any-{}-settings", {"template": {"settings": {}}}),
        ],
    )
    async def test_setup_leaves_alone_what_it_did_not_make(
        self, at: Destination, name: str, path: str, body: Any
    ) -> None:
        path = "/" + path.format(name)
        await at.ask("PUT", path, orjson.loads(orjson.dumps(body).replace(b"*-{}", f"*-{name}".encode())))
        before = await at.ask("GET", path)
        with pytest.raises(ShipperError, match="shipper did not make it"):
            await setup(at.config(f"logs-{{namespace}}-{name}"), dry_run=False)
        assert await at.ask("GET", path) == before
        client = ElasticsearchClient(at.config("x"))
        untouched = await client.request("GET", f"/_component_template/shipper-logs-any-{name}-mappings")
        await client.close()
        assert untouched.status == 404, "nothing is written where something must not be"

    async def test_setup_begins_a_data_stream_that_is_alone(self, at: Destination, name: str) -> None:
        config = at.config(f"logs-shop-{name}")
        assert (await setup(config, dry_run=True))[-1] == f"data stream logs-shop-{name}: would be created"
        assert (await setup(config, dry_run=False))[-1] == f"data stream logs-shop-{name}: created"
        assert (await at.ask("GET", f"/_data_stream/logs-shop-{name}"))["data_streams"][0][
            "name"
        ] == f"logs-shop-{name}"
        assert (await setup(config, dry_run=False))[-1] == f"data stream logs-shop-{name}: is there"

    async def test_after_setup_labels_that_collide_as_objects_are_indexed(self, at: Destination, name: str) -> None:
        stream = f"logs-shop-{name}"
        await setup(at.config(f"logs-{{namespace}}-{name}"), dry_run=False)
        output = await at.output(f"logs-{{namespace}}-{name}")
        labels = {"app": "cart", "app.kubernetes.io/name": "cart"}
        document = {
            "@timestamp": TIME,
            "kubernetes": {"namespace_name": "shop", "labels": labels, "annotations": {"long": "y" * 30_000}},
            "level": 30,
            "message": "hello",
        }
        delivery = await output.send(batch_of(output, [orjson.dumps(document)], target=stream))
        assert (delivery.retry, delivery.rejected) == ((), ())
        assert await at.count(stream, {"term": {"kubernetes.labels.app": "cart"}}) == 1
        assert await at.count(stream, {"term": {"kubernetes.labels.app.kubernetes.io/name": "cart"}}) == 1

    async def test_a_document_of_countless_keys_hurts_no_other_one(self, at: Destination, name: str) -> None:
        """Keys beyond the template's limit are kept without being searchable, or the document is rejected for them."""
        stream = f"logs-shop-{name}"
        await setup(at.config(f"logs-{{namespace}}-{name}"), dry_run=False)
        output = await at.output(f"logs-{{namespace}}-{name}")
        before, after = documents(2)
        countless = orjson.dumps({"@timestamp": TIME, **{f"key-{i}": i for i in range(50_000)}})
        delivery = await output.send(batch_of(output, [before, countless, after], target=stream))
        assert delivery.retry == ()
        assert [rejection.index for rejection in delivery.rejected] in ([], [1])
        assert all("limit" in rejection.detail.lower() for rejection in delivery.rejected)
        assert await at.count(stream) == 3 - len(delivery.rejected)

    async def test_a_data_stream_forgets_its_ids_with_a_rollover(self, at: Destination, name: str) -> None:
        """So a repeat after a rollover can double documents: the hole that ids alone do not close."""
        stream = f"logs-shop-{name}"
        await setup(at.config(f"logs-{{namespace}}-{name}"), dry_run=False)
        output = await at.output(f"logs-{{namespace}}-{name}")
        batch = batch_of(output, documents(3), target=stream)
        assert (await output.send(batch)).duplicates == 0
        assert (await at.ask("GET", f"/_data_stream/{stream}"))["data_streams"][0]["name"] == stream
        assert (await output.send(batch)).duplicates == 3
        await at.ask("POST", f"/{stream}/_rollover")
        assert (await output.send(batch)).duplicates == 0
        assert await at.count(stream) == 6

    @pytest.mark.parametrize("kind", ["data_stream", "alias"])
    async def test_a_rollover_between_a_lost_answer_and_the_repeat_doubles_nothing(
        self, at: Destination, name: str, kind: str
    ) -> None:
        target = await at.rolling(kind, name)
        async with silent_proxy(at.url) as proxy:
            output = await at.output(target, hosts=(proxy.url,), timeout=3.0, data_stream=kind == "data_stream")
            first = batch_of(output, documents(1), target=target)
            while await delivered_or_none(output, first) is None:
                pass  # a busy server; then its connection stands, and what it swallows is the answer alone
            batch = batch_of(output, documents(500), target=target)
            proxy.silence()
            with pytest.raises(Disconnected) as caught:
                await output.send(batch)
            assert caught.value.reason == "timeout"
            await proxy.has_swallowed.wait()  # so it was applied
            await at.ask("POST", f"/{target}/_rollover")
            proxy.speak()
            while (delivery := await delivered_or_none(output, batch)) is None:
                pass  # connections that the proxy has cut
        assert (delivery.retry, delivery.rejected, delivery.duplicates) == ((), (), 500)
        assert await at.count(target) == 501

    @pytest.mark.parametrize("kind", ["data_stream", "alias"])
    async def test_of_an_unanswered_batch_only_what_did_not_arrive_is_sent_after_a_rollover(
        self, at: Destination, name: str, kind: str
    ) -> None:
        target = await at.rolling(kind, name)
        output = await at.output(target, data_stream=kind == "data_stream")
        ids = [f"{name}-{number}" for number in range(6)]
        await output.send(batch_of(output, documents(3), target=target, ids=ids[1:4]))
        await at.ask("POST", f"/{target}/_rollover")
        batch = batch_of(output, documents(6), target=target, ids=ids)
        batch.uncertain_since = time.time()
        delivery = await output.send(batch)
        assert (delivery.retry, delivery.duplicates, delivery.delay_s) == ((0, 4, 5), 3, 0.0)
        rest = subset_of(batch, delivery.retry)
        assert not (await output.send(rest)).retry
        assert await at.count(target) == 6
        batch.uncertain_since = time.time()
        assert (await output.send(batch)).duplicates == 6  # on both sides of the rollover

    async def test_a_plain_index_is_not_asked(self, at: Destination, name: str) -> None:
        """Its ids are enough."""
        output = await at.output(name, data_stream=False)
        batch = batch_of(output, documents(3), target=name)
        for _ in range(2):  # where there is no such index yet, and where there is one
            batch.uncertain_since = time.time()
            delivery = await output.send(batch)
            assert not delivery.retry
        assert delivery.duplicates == 3
        assert count_ambiguous(output) == {"missing": 6.0}

    async def test_a_data_stream_wants_a_time(self, at: Destination, name: str) -> None:
        stream = f"logs-shop-{name}"
        await setup(at.config(f"logs-{{namespace}}-{name}"), dry_run=False)
        output = await at.output(f"logs-{{namespace}}-{name}")
        delivery = await output.send(batch_of(output, [*documents(1), b'{"m":1}'], target=stream))
        assert [rejection.index for rejection in delivery.rejected] == [1]

    async def test_check_finds_the_server_and_the_rights(self, at: Destination, name: str) -> None:
        output = await at.output(f"logs-{{namespace}}-{name}")
        findings = await output.check()
        assert all(finding.ok for finding in findings)
        assert at.flavor in findings[0].what.lower()
        assert f"logs-*-{name}" in findings[1].what
        assert findings[2].mend == "run `shipper setup`"
        await setup(at.config(f"logs-{{namespace}}-{name}"), dry_run=False)
        assert (await output.check())[2].mend == ""


class WaysContract:
    """What real servers do with a document, and the fake does not care about."""

    async def test_documents_of_one_routing_share_a_shard_and_are_found_after_a_lost_answer(
        self, at: Destination, name: str
    ) -> None:
        alias = f"logs-{name}"
        settings = {"index.number_of_shards": 5}
        body = {"aliases": {alias: {"is_write_index": True}}, "settings": settings}
        await at.ask("PUT", f"/{alias}-000001", body)
        output = await at.output(alias, data_stream=False, routing=Template.parse("{pod}"))
        batch = batch_of(output, documents(20), target=f"{alias}?routing=cart-1")
        assert not (await output.send(batch)).retry
        await at.ask("POST", f"/{alias}/_refresh")
        hits = (await at.ask("GET", f"/{alias}/_search?size=20&routing=cart-1"))["hits"]["hits"]
        assert {hit["_routing"] for hit in hits} == {"cart-1"}
        assert len(hits) == 20
        await at.ask("POST", f"/{alias}/_rollover", {"settings": settings})
        batch.uncertain_since = time.time()
        assert (await output.send(batch)).duplicates == 20

    @pytest.mark.parametrize(
        ("block", "reason"),
        [("read_only_allow_delete", "disk_full"), ("read_only", "read_only"), ("write", "blocked")],
    )
    async def test_kinds_of_blocks_are_told_apart_and_lose_nothing(
        self, at: Destination, name: str, block: str, reason: str
    ) -> None:
        """A full disk (flood stage) is `read_only_allow_delete`."""
        output = await at.output(name, data_stream=False)
        await output.send(batch_of(output, documents(1), target=name))
        await at.ask("PUT", f"/{name}/_settings", {f"index.blocks.{block}": True})
        batch = batch_of(output, documents(2), target=name)
        delivery = await output.send(batch)
        assert (delivery.retry, delivery.rejected, delivery.reason) == ((0, 1), (), reason)
        await at.ask("PUT", f"/{name}/_settings", {f"index.blocks.{block}": None})
        assert not (await output.send(batch)).retry
        assert await at.count(name) == 3

    async def test_an_index_that_must_not_be_made_is_told_and_loses_nothing(self, at: Destination, name: str) -> None:
        forbid = {"persistent": {"action.auto_create_index": f"-{name}*,*"}}
        await at.ask("PUT", "/_cluster/settings", forbid)
        try:
            output = await at.output(name, data_stream=False)
            batch = batch_of(output, documents(2), target=name)
            delivery = await output.send(batch)
            assert (delivery.retry, delivery.rejected, delivery.reason) == ((0, 1), (), "no_index")
            await at.ask("PUT", f"/{name}")
            assert not (await output.send(batch)).retry
        finally:
            await at.ask("PUT", "/_cluster/settings", {"persistent": {"action.auto_create_index": None}})

    async def test_an_index_by_date_is_made_by_its_first_document(self, at: Destination, name: str) -> None:
        output = await at.output(f"logs-{name}-{{time:%Y.%m.%d}}", data_stream=False)
        batch = batch_of(output, documents(2), target=f"logs-{name}-2026.11.21")
        other = batch_of(output, documents(3), target=f"logs-{name}-2026.11.22")
        batch.body += bytes(view_of(other.body))
        batch.records += other.records
        assert not (await output.send(batch)).retry
        assert await at.count(f"logs-{name}-2026.11.21") == 2
        assert await at.count(f"logs-{name}-*") == 5

    async def test_a_pipeline_is_used_and_a_missing_one_loses_nothing(self, at: Destination, name: str) -> None:
        output = await at.output(name, data_stream=False, pipeline=name)
        batch = batch_of(output, documents(3), target=name)
        delivery = await output.send(batch)
        assert (delivery.retry, delivery.rejected, delivery.reason) == ((0, 1, 2), (), "misconfigured")
        assert "does not exist" in delivery.detail
        await at.ask("PUT", f"/_ingest/pipeline/{name}", {"processors": []})
        assert not (await output.send(batch)).retry
        assert await at.count(name) == 3


class IlmContract:
    """For servers with index lifecycle management."""

    @pytest.mark.parametrize("kind", ["data_stream", "alias", "by_date"])
    async def test_setup_makes_a_policy_that_new_indices_follow(self, at: Destination, name: str, kind: str) -> None:
        index = name + ("-{time:%Y.%m.%d}" if kind == "by_date" else "")
        retention = RetentionConfig(warm=DAY, cold=30 * DAY, delete=90 * DAY)
        config = at.config(index, data_stream=kind == "data_stream", retention=retention)
        made = await setup(config, dry_run=False)
        policy = template_name(config.index)
        assert made[0] == f"lifecycle policy {policy}: created"
        hot = (await at.ask("GET", f"/_ilm/policy/{policy}"))[policy]["policy"]["phases"]["hot"]["actions"]
        assert hot.get("rollover") == (None if kind == "by_date" else {"max_age": "1d", "max_size": "50gb"})
        output = await at.output(index, data_stream=kind == "data_stream", retention=retention)
        target = name + ("-2026.11.21" if kind == "by_date" else "")
        assert not (await output.send(batch_of(output, documents(2), target=target))).retry
        settings = await at.ask("GET", f"/{target}/_settings/index.lifecycle.*")
        assert [each["settings"]["index"]["lifecycle"]["name"] for each in settings.values()] == [policy]
        if kind == "alias":
            assert list(settings) == [f"{name}-000001"]
        assert all(line.endswith(("as it should be", "is there")) for line in await setup(config, dry_run=False))
        shorter = at.config(index, data_stream=kind == "data_stream", retention=RetentionConfig(delete=7 * DAY))
        changes = await setup(shorter, dry_run=True)
        assert "  ~ phases.delete.min_age: 90d -> 7d" in changes
        if kind != "by_date":
            await at.ask("POST", f"/{target}/_rollover")
            assert await at.count(target) == 2

    async def test_a_policy_of_somebody_else_is_left_alone(self, at: Destination, name: str) -> None:
        phases = {"delete": {"min_age": "1000d", "actions": {"delete": {}}}}
        await at.ask("PUT", f"/_ilm/policy/shipper-logs-{name}", {"policy": {"phases": phases}})
        with pytest.raises(ShipperError, match=f"lifecycle policy shipper-logs-{name} is there"):
            await setup(at.config(f"logs-{name}", retention=RetentionConfig(delete=DAY)), dry_run=False)

    async def test_logsdb_failure_store_and_routing_are_taken_by_a_data_stream(
        self, at: Destination, name: str
    ) -> None:
        options: dict[str, Any] = {
            "setup": SetupConfig(logsdb=True, failure_store=True),
            "routing": Template.parse("{pod}"),
        }
        config = at.config(f"logs-{name}", **options)
        await setup(config, dry_run=False)
        (stream,) = (await at.ask("GET", f"/_data_stream/logs-{name}"))["data_streams"]
        assert (stream["index_mode"], stream["allow_custom_routing"]) == ("logsdb", True)
        assert stream["options"]["failure_store"] == {"enabled": True}
        output = await at.output(f"logs-{name}", **options)
        # That the failure store takes what does not fit cannot be shown here: these servers lack its module.
        delivery = await output.send(batch_of(output, documents(2), target=f"logs-{name}?routing=cart"))
        assert (delivery.retry, delivery.rejected) == ((), ())
        assert await at.count(f"logs-{name}") == 2
        assert all(line.endswith(("as it should be", "is there")) for line in await setup(config, dry_run=False))

    async def test_a_hundred_thousand_keys_stop_no_record(self, at: Destination, name: str) -> None:
        await setup(at.config(f"logs-{name}"), dry_run=False)
        output = await at.output(f"logs-{name}")
        sources = [
            orjson.dumps({"@timestamp": TIME, **{f"key-{each}": each for each in range(start, start + 1000)}})
            for start in range(0, 100_000, 1000)
        ]
        delivery = await output.send(batch_of(output, [*sources, *documents(1)], target=f"logs-{name}"))
        assert (delivery.retry, delivery.rejected) == ((), ())
        assert await at.count(f"logs-{name}") == 101


class UsersContract:
    """For servers that ask who is there."""

    async def test_wrong_credentials_are_told_apart(self, at: Destination, name: str) -> None:
        output = await at.output(f"logs-{name}", basic(at.admin.username or "", "wrong"))
        with pytest.raises(Disconnected, match="does not accept these credentials") as caught:
            await output.send(batch_of(output, documents(1)))
        assert (caught.value.reason, caught.value.ambiguous) == ("auth", False)
        (finding,) = await output.check()
        assert not finding.ok
        assert finding.mend == "look at auth"

    async def test_a_new_secret_in_its_file_is_taken_after_a_401(
        self, at: Destination, name: str, tmp_path: Path
    ) -> None:
        assert at.admin.password is not None
        secret = tmp_path / "password"
        secret.write_text("old")
        auth = AuthConfig(username=at.admin.username, password=Secret(file=str(secret)))
        output = await at.output(name, auth, data_stream=False)
        batch = batch_of(output, documents(1), target=name)
        with pytest.raises(Disconnected) as caught:
            await output.send(batch)
        assert caught.value.delay_s is None
        secret.write_text(at.admin.password.get() + "\n")
        with pytest.raises(Disconnected) as caught:
            await output.send(batch)
        assert caught.value.delay_s == 0.0
        assert not (await output.send(batch)).retry


class RightsContract:
    """For servers with users that may do less than all."""

    async def test_who_may_only_append_can_ship(self, at: Destination, name: str) -> None:
        output = await at.output(f"logs-{name}", at.writer, data_stream=False)
        delivery = await output.send(batch_of(output, documents(3)))
        assert (delivery.retry, delivery.rejected) == ((), ())

    async def test_a_missing_right_loses_nothing(self, at: Destination, name: str) -> None:
        output = await at.output(f"secret-{name}", at.writer, data_stream=False)
        delivery = await output.send(batch_of(output, documents(2)))
        assert (delivery.retry, delivery.rejected, delivery.reason) == ((0, 1), (), "forbidden")
        assert "grant create_doc" in delivery.detail

    async def test_setup_says_which_right_is_missing(self, at: Destination, name: str) -> None:
        config = at.config(f"logs-{{namespace}}-{name}", at.writer, flavor=at.flavor)
        with pytest.raises(ShipperError, match="need the privilege manage_index_templates"):
            await setup(config, dry_run=False)


class ReadersContract:
    """For servers on which reading is a right of its own."""

    async def test_with_the_rights_that_the_documents_ask_for_a_rollover_doubles_nothing(
        self, at: Destination, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        target = await at.rolling("data_stream", name)
        output = await at.output(target, at.shipper)
        batch = batch_of(output, documents(3), target=target)
        await output.send(batch)
        await at.ask("POST", f"/{target}/_rollover")
        batch.uncertain_since = time.time()
        assert (await output.send(batch)).duplicates == 3
        assert output.status()["repeats"] is None

    async def test_without_the_right_to_read_the_repeat_goes_out_and_that_is_said_once(
        self, at: Destination, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        target = await at.rolling("data_stream", name)
        output = await at.output(target, at.writer)
        batch = batch_of(output, documents(3), target=target)
        await output.send(batch)
        await at.ask("POST", f"/{target}/_rollover")
        for _ in range(2):
            batch.uncertain_since = time.time()
            assert not (await output.send(batch)).retry
        assert await at.count(target) == 6
        assert "these credentials lack" in output.status()["repeats"]
        assert count_ambiguous(output) == {"unverified": 6.0}
        assert [r.message for r in caplog.records if "repeated unseen" in r.message] == [
            "an unanswered request is repeated unseen: where its index has rolled over meanwhile, documents double"
        ]


class TestFake(Contract, UsersContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Destination]:
        async with FakeElasticsearch(credentials=("user", "secret")) as fake:
            yield Destination(fake.url, "elasticsearch", basic("user", "secret"))


class TestElasticsearch(Contract, IlmContract, WaysContract, UsersContract, RightsContract, ReadersContract):
    @pytest.fixture
    def destination(self, elasticsearch_server: Elasticsearch) -> Destination:
        return destination_of(elasticsearch_server, "elasticsearch")

    async def test_an_api_key_is_enough(self, at: Destination, name: str) -> None:
        privileges = ["create_doc", "auto_configure"]
        role = {"shipper": {"indices": [{"names": [f"logs-{name}"], "privileges": privileges}]}}
        key = await at.ask("POST", "/_security/api_key", {"name": name, "role_descriptors": role})
        output = await at.output(f"logs-{name}", AuthConfig(api_key=Secret(key["encoded"])), data_stream=False)
        assert not (await output.send(batch_of(output, documents(3)))).retry
        assert await at.count(f"logs-{name}") == 3

    async def test_check_says_which_right_is_missing(self, at: Destination, name: str) -> None:
        output = await at.output(f"secret-{name}", at.writer)
        right = (await output.check())[1]
        assert not right.ok
        assert right.what == f"these credentials lack create_doc and auto_configure on secret-{name}"
        (_, right, *_) = await (await at.output(f"logs-{name}", at.writer)).check()
        assert right.ok
        assert "lacks read and view_index_metadata" in right.what
        (_, right, *_) = await (await at.output(f"logs-{name}", at.shipper)).check()
        assert right.what.endswith("and read there")

    async def test_a_crash_is_survived(self, at: Destination, name: str, elasticsearch_server: Elasticsearch) -> None:
        await check_crash(at, name, elasticsearch_server)


class TestElasticsearch8(Contract, IlmContract, WaysContract, UsersContract, RightsContract, ReadersContract):
    @pytest.fixture
    def destination(self, elasticsearch8_server: Elasticsearch8) -> Destination:
        return destination_of(elasticsearch8_server, "elasticsearch")


class TestOpenSearch2(Contract, WaysContract):
    @pytest.fixture
    def destination(self, opensearch_server: OpenSearch) -> Destination:
        return destination_of(opensearch_server, "opensearch", has_users=False)

    async def test_a_crash_is_survived(self, at: Destination, name: str, opensearch_server: OpenSearch) -> None:
        await check_crash(at, name, opensearch_server)

    async def test_a_missing_plugin_is_told_and_nothing_is_made(self, at: Destination, name: str) -> None:
        with pytest.raises(ShipperError, match="is a plugin missing"):
            await setup(at.config(f"logs-{name}", retention=RetentionConfig(delete=DAY)), dry_run=False)
        with pytest.raises(AssertionError):
            await at.ask("GET", f"/_index_template/shipper-logs-{name}")


class TestOpenSearch3(Contract, WaysContract):
    @pytest.fixture
    def destination(self, opensearch3_server: OpenSearch3) -> Destination:
        return destination_of(opensearch3_server, "opensearch", has_users=False)


class TestSecureOpenSearch(Contract, WaysContract, UsersContract, RightsContract, ReadersContract):
    @pytest.fixture
    def destination(self, opensearch_secure_server: SecureOpenSearch) -> Destination:
        return destination_of(opensearch_secure_server, "opensearch")

    async def test_an_unknown_certificate_is_told_apart(self, at: Destination, name: str) -> None:
        at.tls = NO_CA
        output = await at.output(name)
        with pytest.raises(Disconnected, match="TLS failed") as caught:
            await output.send(batch_of(output, documents(1)))
        assert (caught.value.reason, caught.value.ambiguous) == ("tls", False)
        (finding,) = await output.check()
        assert "tls.ca_file" in finding.mend

    async def test_any_certificate_will_do_where_that_is_configured(self, at: Destination, name: str) -> None:
        at.tls = TlsConfig(verify=False)
        output = await at.output(name, data_stream=False)
        assert not (await output.send(batch_of(output, documents(1)))).retry

    async def test_check_does_not_need_the_right_to_read(self, at: Destination, name: str) -> None:
        output = await at.output(f"logs-{{namespace}}-{name}", at.writer)
        findings = await output.check()
        assert all(finding.ok for finding in findings)
        assert "reached" in findings[0].what


async def delivered_or_none(output: ElasticsearchOutput, batch: Batch) -> Delivery | None:
    try:
        return await output.send(batch)
    except Disconnected:
        return None


def count_ambiguous(output: ElasticsearchOutput) -> dict[str, float]:
    """Records of unanswered requests, by what was found of them."""
    samples = [sample for metric in output._ambiguous.collect() for sample in metric.samples]
    return {sample.labels["outcome"]: sample.value for sample in samples}


async def _reason_of_failure(output: ElasticsearchOutput, batch: Batch) -> str:
    with pytest.raises(Disconnected) as caught:
        await output.send(batch)
    return caught.value.reason


async def check_crash(at: Destination, name: str, server: SearchServer) -> None:
    output = await at.output(name, data_stream=False)
    batch = batch_of(output, documents(100), target=name)
    await output.send(batch)
    server.kill()
    try:
        reasons = [await _reason_of_failure(output, batch)]  # over the connection that was kept
        while reasons[-1] != "refused":  # its port is closed a moment after its death
            reasons.append(await _reason_of_failure(output, batch))
        assert set(reasons) <= {"reset", "refused"}
    finally:
        server.start()
    assert (await output.send(batch)).duplicates == 100


@pytest.fixture(scope="module")
def small_elasticsearch(
    elasticsearch_server: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Elasticsearch]:
    """With limits that a server has only when it is started with them."""
    limits = {"http.max_content_length": "1mb", "indexing_pressure.memory.max_operation_size": "200kb"}
    server = Elasticsearch(tmp_path_factory.mktemp("small"), elasticsearch_server.home, limits)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class TestSmallElasticsearch:
    async def test_a_request_over_the_limit_is_split(self, small_elasticsearch: Elasticsearch, name: str) -> None:
        output = await destination_of(small_elasticsearch, "elasticsearch").output(
            name, data_stream=False, compression="none"
        )
        sources = [orjson.dumps({"m": "x" * 100_000})] * 15
        batch = batch_of(output, sources, target=name)
        try:
            delivery = await output.send(batch)
        except Disconnected:  # the server closed the connection before its refusal could be read: it is asked first now
            delivery = await output.send(batch)
        assert delivery.split
        await output.close()

    async def test_a_document_over_the_limit_is_split_off(self, small_elasticsearch: Elasticsearch, name: str) -> None:
        output = await destination_of(small_elasticsearch, "elasticsearch").output(name, data_stream=False)
        sources = [b'{"m":1}', orjson.dumps({"m": "x" * 300_000})]
        assert (await output.send(batch_of(output, sources, target=name))).split
        assert not (await output.send(batch_of(output, sources[:1], target=name))).split
        assert (await output.send(batch_of(output, sources[1:], target=name))).split
        await output.close()


class TestSmallOpenSearch:
    async def test_a_request_over_the_limit_is_split_even_if_it_is_small_when_compressed(
        self, opensearch_server: OpenSearch, tmp_path: Path, name: str
    ) -> None:
        server = OpenSearch(tmp_path, opensearch_server.home, {"http.max_content_length": "1mb"})
        try:
            server.start()
            at = destination_of(server, "opensearch", has_users=False)
            output = await at.output(name, data_stream=False)
            sources = [orjson.dumps({"m": "x" * 100_000})] * 50
            assert (await output.send(batch_of(output, sources, target=name))).split
            assert not (await output.send(batch_of(output, sources[:5], target=name))).split
            await output.close()
        finally:
            server.kill()
