"""The JSON schema against what the loader takes and refuses."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from shipper.config.loader import load_text
from shipper.config.schema import json_schema
from shipper.config.show import dump
from tests.config.test_show import FULL

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def errors(document: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(document)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    json.dumps(json_schema())


def test_what_the_loader_shows_is_valid() -> None:
    assert errors(yaml.safe_load(dump(load_text(FULL, environ={})))) == []


@pytest.mark.parametrize("path", sorted(Path("config").glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_of_the_project_are_valid(path: Path) -> None:
    assert errors(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": {"drain_timeot": "5s"}},
        {"service": {"drain_timeout": 5}},
        {"service": {"memory_limit": "5 lightyears"}},
        {"filters": [{"type": "drop"}]},
        {"filters": [{"type": "drop", "when": {"namespce": "a"}}]},
        {"outputs": [{"type": "elasticsearch", "hosts": ["http://a"]}]},
        {"outputs": [{"type": "elastic"}]},
        {"outputs": [{"type": "s3", "bucket": "b", "compression": "lz4"}]},
    ],
    ids=str,
)
def test_what_is_wrong_is_invalid(wrong: dict[str, Any]) -> None:
    right = {"inputs": [{"type": "tail", "path": "/a"}], "outputs": [{"type": "stdout"}]}
    assert errors(right) == []
    assert errors(right | wrong) != []
