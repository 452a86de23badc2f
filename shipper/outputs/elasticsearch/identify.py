"""What answers at a host: Elasticsearch or OpenSearch, and which version."""

from typing import Literal

import msgspec

from shipper.errors import ShipperError
from shipper.outputs.elasticsearch.client import Answer, ElasticsearchClient
from shipper.outputs.elasticsearch.config import ElasticsearchConfig

Flavor = Literal["elasticsearch", "opensearch"]


class _Version(msgspec.Struct):
    number: str
    distribution: str = ""


class _Root(msgspec.Struct):
    version: _Version
    tagline: str = ""


class Server(msgspec.Struct, frozen=True):
    flavor: Flavor
    number: str = ""  # empty where `GET /` is not allowed

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.number.split("-")[0].split(".") if part.isdigit())

    def __str__(self) -> str:
        name = "OpenSearch" if self.flavor == "opensearch" else "Elasticsearch"
        return f"{name} {self.number}".rstrip()


def read_root(answer: Answer) -> Server | None:
    """From the answer to `GET /`; None when it is neither's."""
    try:
        root = msgspec.json.decode(answer.body, type=_Root)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    is_opensearch = root.version.distribution == "opensearch" or "OpenSearch" in root.tagline
    return Server("opensearch" if is_opensearch else "elasticsearch", root.version.number)


async def identify(client: ElasticsearchClient, config: ElasticsearchConfig) -> Server:
    """Raises ShipperError with what a person can do, and Disconnected."""
    answer = await client.request("GET", "/")
    if answer.status == 200:
        server = read_root(answer)
        if server is None:
            raise ShipperError("what answers there is neither Elasticsearch nor OpenSearch; look at hosts")
        return server if config.flavor == "auto" else Server(config.flavor, server.number)
    if answer.status == 401:
        raise ShipperError("the server does not accept these credentials; look at auth")
    if answer.status == 403 and config.flavor != "auto":
        return Server(config.flavor)
    if answer.status == 403:
        raise ShipperError(
            "these credentials may not ask the server what it is (GET / is forbidden); "
            "say flavor: elasticsearch or flavor: opensearch"
        )
    raise ShipperError(f"the server answered GET / with status {answer.status}")
