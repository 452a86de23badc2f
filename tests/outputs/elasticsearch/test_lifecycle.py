"""Retention as the servers' own policies, and ISM's way of changing one (no published OpenSearch has that plugin)."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from shipper.errors import ShipperError
from shipper.outputs.elasticsearch.config import RetentionConfig, RolloverConfig
from shipper.outputs.elasticsearch.lifecycle import DESCRIPTION, ilm_policy, ism_policy, plain_ism_policy, show_size
from shipper.outputs.elasticsearch.setup import setup
from tests.outputs.elasticsearch.batches import config

DAY = 86400.0
EVERYTHING = RetentionConfig(warm=DAY, cold=30 * DAY, delete=90 * DAY)


@pytest.mark.parametrize(
    ("count", "text"), [(50 * 2**30, "50gb"), (1536 * 2**20, "1536mb"), (2**40, "1tb"), (10**9, "1000000000b")]
)
def test_sizes_are_exact(count: int, text: str) -> None:
    assert show_size(count) == text


def test_ilm_has_a_phase_for_each_age() -> None:
    phases = ilm_policy(EVERYTHING, rolls_over=True)["phases"]
    assert {name: phase["min_age"] for name, phase in phases.items()} == {
        "hot": "0ms",
        "warm": "1d",
        "cold": "30d",
        "delete": "90d",
    }
    assert phases["hot"]["actions"]["rollover"] == {"max_age": "1d", "max_size": "50gb"}


def test_without_an_age_there_is_no_phase_and_nothing_is_deleted() -> None:
    own = RetentionConfig(rollover=RolloverConfig(max_age=3 * 3600.0, max_size=10**9))
    phases = ilm_policy(own, rolls_over=True)["phases"]
    assert list(phases) == ["hot"]
    assert phases["hot"]["actions"]["rollover"] == {"max_age": "3h", "max_size": "1000000000b"}
    assert "rollover" not in ilm_policy(own, rolls_over=False)["phases"]["hot"]["actions"]


def test_ism_goes_from_state_to_state_by_the_age_of_the_rollover() -> None:
    states = ism_policy(EVERYTHING, pattern="logs-*", rolls_over=True)["states"]
    steps = [(s["name"], [(t["state_name"], t["conditions"]) for t in s["transitions"]]) for s in states]
    assert steps == [
        ("hot", [("warm", {"min_rollover_age": "1d"})]),
        ("warm", [("cold", {"min_rollover_age": "30d"})]),
        ("cold", [("delete", {"min_rollover_age": "90d"})]),
        ("delete", []),
    ]
    assert states[0]["actions"][0] == {"rollover": {"min_index_age": "1d", "min_size": "50gb"}}
    by_date = ism_policy(RetentionConfig(delete=DAY), pattern="logs-*", rolls_over=False)["states"]
    assert by_date[0]["transitions"] == [{"state_name": "delete", "conditions": {"min_index_age": "1d"}}]
    assert by_date[0]["actions"] == [{"index_priority": {"priority": 100}}]


def as_answered(policy: dict[str, Any]) -> dict[str, Any]:
    """With what ISM adds of its own, as its documentation shows it."""
    retry = {"retry": {"count": 3, "backoff": "exponential", "delay": "1m"}}
    states = [
        {
            **state,
            "actions": [
                {**retry, **{k: {**v, "copy_alias": False} if k == "rollover" else v for k, v in action.items()}}
                for action in state["actions"]
            ],
        }
        for state in policy["states"]
    ]
    templates = [{**each, "last_updated_time": 1} for each in policy["ism_template"]]
    own = {"policy_id": "x", "last_updated_time": 1, "schema_version": 21, "error_notification": None}
    return {**policy, **own, "states": states, "ism_template": templates}


def test_what_ism_adds_is_no_difference() -> None:
    policy = ism_policy(EVERYTHING, pattern="logs-*", rolls_over=True)
    assert plain_ism_policy(as_answered(policy)) == policy


class Ism:
    """The endpoints that setup speaks to, of an OpenSearch with index management."""

    def __init__(self) -> None:
        self.policies: dict[str, Any] = {}
        self.others: dict[str, Any] = {}
        self.number = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.root),
            web.get("/_plugins/_ism/policies/{name}", self.get),
            web.put("/_plugins/_ism/policies/{name}", self.put),
            web.get("/{kind:_index_template|_component_template}/{name}", self.get_other),
            web.put("/{kind:_index_template|_component_template}/{name}", self.put_other),
        ]

    async def root(self, _: web.Request) -> web.Response:
        return web.json_response({"version": {"number": "2.19.5", "distribution": "opensearch"}})

    async def get(self, request: web.Request) -> web.Response:
        found = self.policies.get(request.match_info["name"])
        if found is None:
            return web.json_response({"error": {"reason": "Policy not found"}, "status": 404}, status=404)
        return web.json_response({"_seq_no": self.number, "_primary_term": 1, "policy": as_answered(found)})

    async def put(self, request: web.Request) -> web.Response:
        is_there = request.match_info["name"] in self.policies
        if is_there and request.query.get("if_seq_no") != str(self.number):
            return web.json_response({"error": {"reason": "version conflict"}, "status": 409}, status=409)
        self.number += 1
        self.policies[request.match_info["name"]] = orjson.loads(await request.read())["policy"]
        return web.json_response({}, status=201)

    async def get_other(self, request: web.Request) -> web.Response:
        found = self.others.get(request.path)
        member = request.match_info["kind"][1:]
        return web.json_response({f"{member}s": [{member: found}]} if found else {}, status=200 if found else 404)

    async def put_other(self, request: web.Request) -> web.Response:
        self.others[request.path] = orjson.loads(await request.read())
        return web.json_response({})


@pytest.fixture
async def ism() -> AsyncIterator[tuple[Ism, str]]:
    fake = Ism()
    app = web.Application()
    app.router.add_routes(fake.routes())
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield fake, "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


async def test_a_policy_of_ism_is_made_once_and_changed_by_its_version(ism: tuple[Ism, str]) -> None:
    fake, url = ism
    wanted = config(url, index="logs-{namespace}", retention=EVERYTHING)
    assert (await setup(wanted, dry_run=False))[0] == "lifecycle policy shipper-logs-any: created"
    assert all(line.endswith("as it should be") for line in await setup(wanted, dry_run=False))
    assert fake.number == 1
    shorter = config(url, index="logs-{namespace}", retention=RetentionConfig(delete=7 * DAY))
    assert (await setup(shorter, dry_run=False))[0] == "lifecycle policy shipper-logs-any: changed"
    assert fake.number == 2
    assert [state["name"] for state in fake.policies["shipper-logs-any"]["states"]] == ["hot", "delete"]


async def test_a_policy_of_ism_that_somebody_else_made_is_left_alone(ism: tuple[Ism, str]) -> None:
    fake, url = ism
    theirs = ism_policy(EVERYTHING, pattern="logs-*", rolls_over=True) | {"description": "ours"}
    fake.policies["shipper-logs-any"] = theirs
    with pytest.raises(ShipperError, match="shipper did not make it"):
        await setup(config(url, index="logs-{namespace}", retention=EVERYTHING), dry_run=False)
    assert fake.policies["shipper-logs-any"]["description"] != DESCRIPTION
    assert fake.others == {}
