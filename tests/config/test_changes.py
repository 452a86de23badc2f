"""What a reload has to touch, and what it must leave alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from shipper.config.changes import ConfigChanges, compare
from shipper.config.loader import load, load_text

EXAMPLES = sorted(Path("config").glob("*.yaml"))
ENVIRON = {
    "HTTP_PORT": "2020",
    "KUBERNETES_URL": "http://127.0.0.1:8001",
    "OUT_DIR": "/out",
    "PODS_DIR": "/var/log/pods",
    "STATE_DIR": "/state",
    "POD_IP": "10.0.0.1",
    "NODE_NAME": "node-1",
    "ELASTICSEARCH_URL": "http://127.0.0.1:9200",
    "ELASTICSEARCH_API_KEY": "key",
    "S3_BUCKET": "logs",
    "AWS_REGION": "eu-central-1",
}
ES: dict[str, Any] = {"type": "elasticsearch", "name": "es", "hosts": ["http://127.0.0.1:9200"], "index": "logs"}
FILES: dict[str, Any] = {"type": "file", "name": "files", "path": "out.ndjson"}
PODS: dict[str, Any] = {"type": "tail", "name": "pods", "path": "/var/log/pods/*/*/*.log"}
BASE: dict[str, Any] = {"service": {"state_dir": "/state"}, "inputs": [PODS], "filters": [], "outputs": [ES, FILES]}


def changes(before: dict[str, Any], **after: Any) -> ConfigChanges:
    return compare(load_text(json.dumps(before)), load_text(json.dumps({**before, **after})))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_a_configuration_that_is_read_twice_has_not_changed(path: Path) -> None:
    found = compare(load(path, ENVIRON), load(path, ENVIRON))
    assert (found.said, found.needs_restart) == ((), ())
    assert not found.outputs
    assert not found.inputs


def test_an_output_with_other_settings_is_another_one() -> None:
    found = changes(BASE, outputs=[{**ES, "concurrency": 1}, FILES])
    assert (set(found.outputs), found.said) == ({"es"}, ("outputs.es",))


def test_an_output_of_which_only_the_rule_differs_goes_on() -> None:
    found = changes(BASE, outputs=[{**ES, "match": "kube.shop.*"}, FILES])
    assert (set(found.outputs), found.said) == (set(), ("outputs.es",))


def test_an_output_that_is_renamed_is_one_removed_and_one_added() -> None:
    found = changes(BASE, outputs=[{**ES, "name": "search"}, FILES])
    assert (set(found.outputs), found.said) == ({"search"}, ("outputs.es", "outputs.search"))


def test_an_input_with_other_settings_is_another_one() -> None:
    found = changes(BASE, inputs=[{**PODS, "exclude": ["/var/log/pods/x/*"]}])
    assert (set(found.inputs), set(found.outputs), found.said) == ({"pods"}, set(), ("inputs.pods",))


def test_filters_touch_neither_inputs_nor_outputs() -> None:
    found = changes(BASE, filters=[{"type": "json"}])
    assert (set(found.inputs), set(found.outputs), found.metadata, found.said) == (set(), set(), False, ("filters",))


@pytest.mark.parametrize("before", [[], [{"type": "kubernetes", "api": "off"}]])
def test_only_another_kubernetes_filter_needs_another_watch(before: list[Any]) -> None:
    base = {**BASE, "filters": before}
    assert changes(base, filters=[{"type": "kubernetes", "owner": False}]).metadata
    assert not changes(base, filters=[*before, {"type": "json"}]).metadata


def test_what_holds_until_the_end_of_the_process_is_named_and_kept() -> None:
    service = {"state_dir": "/elsewhere", "http": {"listen": "127.0.0.1:1"}, "history": "1h"}
    found = changes(BASE, service=service)
    assert found.needs_restart == ("service.state_dir", "service.http")
    assert found.said == ("service.history",)
    assert (found.config.service.state_dir, found.config.service.history) == ("/state", 3600.0)
    assert found.config.service.http == load_text(json.dumps(BASE)).service.http


def test_a_secret_that_was_replaced_in_its_file_makes_another_output(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("old")
    text = json.dumps({**BASE, "outputs": [{**ES, "auth": {"api_key": {"file": str(secret)}}}]})
    before = load_text(text)
    secret.write_text("new")
    assert compare(before, load_text(text)).outputs == {"es"}
    assert "new" not in repr(compare(before, load_text(text)))


def test_the_order_of_outputs_is_a_change_that_touches_none() -> None:
    found = changes(BASE, outputs=[FILES, ES])
    assert (set(found.outputs), found.said) == (set(), ("order",))
