"""The servers themselves: they start, know their users, and keep what they confirmed over a crash."""

import json
import urllib.error
from typing import Any

import pytest

from tests.servers.search_server import SearchServer

DOCUMENT = b'{"create":{"_id":"1"}}\n{"@timestamp":"2026-11-21T10:00:00Z","message":"m"}\n'
TEMPLATE = b'{"index_patterns":["logs-*"],"data_stream":{},"priority":500}'
FIXTURES = [
    "elasticsearch_server",
    "elasticsearch8_server",
    "opensearch_server",
    "opensearch3_server",
    "opensearch_secure_server",
]


@pytest.fixture(params=FIXTURES)
def server(request: pytest.FixtureRequest) -> SearchServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, SearchServer)
    return found


def _call(server: SearchServer, method: str, path: str, body: bytes | None = None) -> Any:
    return json.loads(server.request(method, path, body))


def _status_for_writer(server: SearchServer, index: str) -> int:
    body = server.request("POST", f"/{index}/_bulk", DOCUMENT, user=server.writer_user, password=server.writer_password)
    (item,) = json.loads(body)["items"]
    status: int = item["create"]["status"]
    return status


def test_a_confirmed_document_survives_a_crash(server: SearchServer) -> None:
    answer = _call(server, "POST", "/crash/_bulk", DOCUMENT)
    assert [item["create"]["status"] for item in answer["items"]] == [201]
    server.kill()
    assert not server.is_running
    server.start()
    assert _call(server, "GET", "/crash/_doc/1")["_source"]["message"] == "m"


def test_it_says_what_it_is(server: SearchServer) -> None:
    assert _call(server, "GET", "/")["version"]["number"] in server.home.name


@pytest.mark.parametrize("name", ["elasticsearch_server", "opensearch_secure_server"])
def test_the_writer_may_append_to_its_streams_and_nowhere_else(name: str, request: pytest.FixtureRequest) -> None:
    server: SearchServer = request.getfixturevalue(name)
    server.request("PUT", "/_index_template/writer", TEMPLATE)
    assert _status_for_writer(server, "logs-writer-default") == 201
    assert _status_for_writer(server, "other") == 403


@pytest.mark.parametrize("name", ["elasticsearch_server", "opensearch_secure_server"])
def test_a_wrong_password_is_refused(name: str, request: pytest.FixtureRequest) -> None:
    server: SearchServer = request.getfixturevalue(name)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        server.request("GET", "/_cluster/health", password="wrong")


@pytest.mark.parametrize("name", ["elasticsearch_server", "elasticsearch8_server"])
def test_elasticsearch_takes_data_streams_and_policies(name: str, request: pytest.FixtureRequest) -> None:
    server: SearchServer = request.getfixturevalue(name)
    policy = b'{"policy":{"phases":{"hot":{"actions":{"rollover":{"max_age":"1d"}}}}}}'
    server.request("PUT", "/_ilm/policy/daily", policy)
    assert "hot" in _call(server, "GET", "/_ilm/policy/daily")["daily"]["policy"]["phases"]
    server.request("PUT", "/_index_template/streams", TEMPLATE.replace(b"logs-*", b"streams-*"))
    server.request("PUT", "/_data_stream/streams-a")
    found = _call(server, "GET", "/_data_stream/streams-*")["data_streams"]
    assert [stream["name"] for stream in found] == ["streams-a"]
    server.request("DELETE", "/_data_stream/streams-a")
    assert _call(server, "GET", "/_data_stream/streams-*") == {"data_streams": []}
