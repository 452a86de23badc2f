from typing import Any

import pytest

from shipper.outputs.elasticsearch.config import RetentionConfig, SetupConfig
from shipper.outputs.elasticsearch.identify import Server
from shipper.outputs.elasticsearch.index_template import (
    build_index_template,
    build_mappings,
    build_settings,
    differences,
    index_pattern,
    template_name,
    unmet,
)
from shipper.template import Template
from tests.outputs.elasticsearch.batches import config

ELASTICSEARCH = Server("elasticsearch", "9.5.3")
OPENSEARCH = Server("opensearch", "2.19.5")


@pytest.mark.parametrize(
    ("index", "pattern"),
    [
        ("logs-app-default", "logs-app-default"),
        ("logs-{namespace}-default", "logs-*-default"),
        ("logs-{namespace}{pod}-{time:%Y.%m.%d}", "logs-*-*"),
    ],
)
def test_a_pattern_matches_every_index_of_its_template(index: str, pattern: str) -> None:
    assert index_pattern(Template.parse(index)) == pattern


def test_a_templates_name_holds_no_wildcard() -> None:
    assert template_name(Template.parse("logs-{namespace}-default")) == "shipper-logs-any-default"


def test_labels_are_one_field_on_both_servers() -> None:
    types = []
    for server in (ELASTICSEARCH, OPENSEARCH):
        mappings = build_mappings(server)["template"]["mappings"]
        assert mappings["properties"]["@timestamp"] == {"type": "date_nanos"}
        types.append(mappings["properties"]["kubernetes"]["properties"]["labels"]["type"])
    assert types == ["flattened", "flat_object"]


@pytest.mark.parametrize(
    ("server", "expected"),
    [(ELASTICSEARCH, True), (Server("elasticsearch", "8.13.4"), False), (OPENSEARCH, False)],
)
def test_fields_beyond_the_limit_are_ignored_where_the_server_can(server: Server, expected: bool) -> None:
    wanted = config("http://x", setup=SetupConfig(max_fields=2000))
    settings = build_settings(wanted, server)["template"]["settings"]
    assert ("index.mapping.total_fields.ignore_dynamic_beyond_limit" in settings) is expected
    assert settings["index.mapping.total_fields.limit"] == 2000


def test_a_plain_index_gets_no_data_stream() -> None:
    assert build_index_template(config("http://x"), ELASTICSEARCH)["data_stream"] == {}
    assert "data_stream" not in build_index_template(config("http://x", data_stream=False), ELASTICSEARCH)


def test_a_site_can_add_a_component_of_its_own_where_a_missing_one_is_no_error() -> None:
    name = "shipper-logs-app-default"
    ours = [f"{name}-mappings", f"{name}-settings"]
    assert build_index_template(config("http://x"), ELASTICSEARCH)["composed_of"] == [*ours, f"{name}-custom"]
    assert build_index_template(config("http://x"), OPENSEARCH)["composed_of"] == ours


def test_an_alias_that_rolls_over_has_a_pattern_for_its_numbers() -> None:
    alias = config("http://x", index="logs", data_stream=False, retention=RetentionConfig())
    assert build_index_template(alias, ELASTICSEARCH)["index_patterns"] == ["logs-*"]
    assert build_settings(alias, ELASTICSEARCH)["template"]["settings"]["index.lifecycle.rollover_alias"] == "logs"
    of_opensearch = build_settings(alias, OPENSEARCH)["template"]["settings"]
    assert of_opensearch["plugins.index_state_management.rollover_alias"] == "logs"
    assert "index.lifecycle.name" not in of_opensearch
    plain = config("http://x", index="logs", data_stream=False)
    assert build_index_template(plain, ELASTICSEARCH)["index_patterns"] == ["logs"]


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("8.18.3", None),
        ("8.19.0", {"failure_store": {"enabled": False}}),
        ("9.0.1", None),
        ("9.5.3", {"failure_store": {"enabled": False}}),
    ],
)
def test_the_failure_store_is_named_where_there_is_one(version: str, options: object) -> None:
    template = build_settings(config("http://x"), Server("elasticsearch", version))["template"]
    assert template.get("data_stream_options") == options


@pytest.mark.parametrize(
    ("options", "server", "problem"),
    [
        ({"setup": SetupConfig(logsdb=True)}, Server("elasticsearch", "8.16.0"), "setup.logsdb needs"),
        ({"setup": SetupConfig(logsdb=True)}, OPENSEARCH, "setup.logsdb needs"),
        ({"setup": SetupConfig(failure_store=True)}, Server("elasticsearch", "9.0.4"), "setup.failure_store needs"),
        ({"routing": Template.parse("{pod}")}, OPENSEARCH, "takes no routing"),
        ({"routing": Template.parse("{pod}"), "data_stream": False}, OPENSEARCH, ""),
        ({"setup": SetupConfig(logsdb=True, failure_store=True)}, ELASTICSEARCH, ""),
    ],
)
def test_what_a_server_does_not_have_is_told(options: dict[str, Any], server: Server, problem: str) -> None:
    said = unmet(config("http://x", **options), server)
    assert (problem in said, bool(said)) == (True, bool(problem))


def test_what_the_server_writes_differently_is_no_difference() -> None:
    wanted = {"priority": 200, "template": {"settings": {"index.mapping.ignore_malformed": True}}, "data_stream": {}}
    given_back = {
        "priority": 200,
        "template": {"settings": {"index": {"mapping": {"ignore_malformed": "true"}}}},
        "data_stream": {"hidden": False},
        "created_date_millis": 1,
    }
    assert differences(given_back, wanted) == []


def test_differences_are_said_in_lines() -> None:
    before = {"priority": 100, "old": {"a": 1}}
    assert differences(before, {"priority": 200, "new": ["x"], "data_stream": {}}) == [
        '+ new: ["x"]',
        "- old.a: 1",
        "~ priority: 100 -> 200",
        "+ data_stream",
    ]
