"""Configuration of the elasticsearch output."""

import base64
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import msgspec

from shipper.outputs.config import NAME, BatchConfig, OutputConfig, Target
from shipper.template import PLAIN, Template
from shipper.values import (
    Count,
    Doc,
    Duration,
    FilePath,
    Flaw,
    Name,
    Placeholders,
    PositiveDuration,
    PositiveSize,
    Secret,
    Url,
)

_Routing = Annotated[Template, Placeholders((*(p for p in PLAIN if p != "id"), "label", "annotation", "field"))]

# https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-create
_FINGERPRINT = re.compile(r"[0-9a-fA-F]{64}")
_NOT_IN_INDEX = re.compile(r'[A-Z\\/*?"<>|\s,#:]')


class AwsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Signed requests, with the credentials that the SDK's chain finds."""

    region: Annotated[str, Doc("As in the host's name: `eu-central-1`.")]
    service: Annotated[Literal["es", "aoss"], Doc("`es` for domains, `aoss` for OpenSearch Serverless.")] = "es"


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One way of four: `api_key`, `bearer`, `aws`, or `username` and `password`."""

    api_key: Annotated[Secret | None, Doc("API key, encoded as Elasticsearch gives it (`id:key` in base64).")] = None
    username: Annotated[str | None, Doc("User of basic authentication.")] = None
    password: Annotated[Secret | None, Doc("Its password.")] = None
    bearer: Annotated[Secret | None, Doc("Bearer token.")] = None
    aws: Annotated[AwsConfig | None, Doc("Requests are signed for OpenSearch as AWS runs it.")] = None

    def flaws(self) -> Iterator[Flaw]:
        if (self.username is None) != (self.password is None):
            yield Flaw((), "username and password go together")
        if sum(way is not None for way in (self.api_key, self.bearer, self.username, self.aws)) > 1:
            yield Flaw((), "takes one of api_key, bearer, aws, and username with password")


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True):
    ca_file: Annotated[FilePath | None, Doc("Certificates that the server's is checked against.")] = None
    cert_file: Annotated[FilePath | None, Doc("Client certificate.")] = None
    key_file: Annotated[FilePath | None, Doc("Key of the client certificate.")] = None
    verify: Annotated[bool, Doc("`false` takes any certificate: for experiments only.")] = True
    fingerprint: Annotated[
        str | None, Doc("SHA-256 of the server's certificate, in hex: this one is taken, and no other.")
    ] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.fingerprint is not None and not _FINGERPRINT.fullmatch(self.fingerprint.replace(":", "")):
            yield Flaw(("fingerprint",), "is no SHA-256 in hex: 64 digits, colons between them or not")
        if self.fingerprint is not None and (self.ca_file or self.cert_file or not self.verify):
            yield Flaw(("fingerprint",), "stands for itself: without ca_file, cert_file and verify: false")
        if self.key_file is not None and self.cert_file is None:
            yield Flaw(("key_file",), "is the key of a cert_file, which is missing")
        if self.ca_file is not None and not self.verify:
            yield Flaw(("ca_file",), "is not looked at with verify: false; take one of them out")


class ProxyConfig(msgspec.Struct, frozen=True, kw_only=True):
    url: Annotated[Url, Doc("Of the proxy: `http://proxy:3128`.")]
    username: Annotated[str | None, Doc("Where the proxy asks for one.")] = None
    password: Annotated[Secret | None, Doc("Its password.")] = None

    def flaws(self) -> Iterator[Flaw]:
        if (self.username is None) != (self.password is None):
            yield Flaw((), "username and password go together")


class RolloverConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Whichever comes first ends an index, and the next one begins."""

    max_age: Annotated[PositiveDuration, Doc("Age at which the next index begins.")] = 86400.0
    max_size: Annotated[PositiveSize, Doc("Size of its primary shards at which the next index begins.")] = 50 * 2**30


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Ages count from the rollover; of an index a day, from its creation."""

    rollover: Annotated[RolloverConfig, Doc("Of data streams and aliases.")] = RolloverConfig()
    warm: Annotated[Duration | None, Doc("Age at which an index is merged and less urgent to recover.")] = None
    cold: Annotated[Duration | None, Doc("Age at which an index becomes read-only.")] = None
    delete: Annotated[Duration | None, Doc("Age at which an index is deleted; without it, none ever is.")] = None

    def flaws(self) -> Iterator[Flaw]:
        ages = [(name, age) for name in ("warm", "cold", "delete") if (age := getattr(self, name)) is not None]
        for (earlier, before), (later, after) in pairwise(ages):
            if after < before:
                yield Flaw((later,), f"must not be less than {earlier}")


class SetupConfig(msgspec.Struct, frozen=True, kw_only=True):
    logsdb: Annotated[
        bool, Doc("Elasticsearch's index mode for logs, from 8.17 on: half the disk, for some more work.")
    ] = False
    failure_store: Annotated[
        bool,
        Doc(
            "Whether records that do not fit go into the data stream's failure store (Elasticsearch 8.19, 9.1) and are "
            "counted as delivered, or are kept here as dead letters."
        ),
    ] = False
    max_fields: Annotated[Count, Doc("Fields of one index; what applications add beyond is not indexed.")] = 1000


class BulkConfig(BatchConfig, frozen=True, kw_only=True):
    max_targets: Annotated[
        Count, Doc("Different indices that one request writes to; each costs the server a task for each shard.")
    ] = 100
    min_bytes: Annotated[
        PositiveSize,
        Doc("A server that is busy gets requests of as little as this; the same as max_bytes: always of that."),
    ] = 256 * 2**10


class ElasticsearchConfig(OutputConfig, frozen=True, kw_only=True):
    """Elasticsearch 8, 9 and OpenSearch 2, 3, by bulk requests."""

    kind: ClassVar[str] = "elasticsearch"
    name: Annotated[Name, NAME] = "elasticsearch"
    hosts: Annotated[tuple[Url, ...], Doc("Nodes, as full URLs; one that fails is set aside for a while.")] = ()
    cloud_id: Annotated[str | None, Doc("In place of hosts: the deployment's id on Elastic Cloud.")] = None
    proxy: Annotated[ProxyConfig | None, Doc("An HTTP proxy that all requests go through.")] = None
    index: Annotated[Target, Doc("Data stream or index; values are lower-cased and made valid.")]
    data_stream: Annotated[bool, Doc("`index` names data streams.")] = True
    flavor: Annotated[Literal["auto", "elasticsearch", "opensearch"], Doc("What the server is; `auto` asks it.")] = (
        "auto"
    )
    pipeline: Annotated[str | None, Doc("Ingest pipeline that documents go through.")] = None
    routing: Annotated[
        _Routing | None,
        Doc("Documents of one value share a shard. A data stream must allow it: `shipper setup` does."),
    ] = None
    batch: Annotated[BulkConfig, Doc("What one request carries.")] = BulkConfig()
    auth: Annotated[AuthConfig, Doc("One way of four: `api_key`, `bearer`, `aws`, or `username` and `password`.")] = (
        AuthConfig()
    )
    tls: Annotated[TlsConfig, Doc("For hosts with https.")] = TlsConfig()
    compression: Annotated[Literal["gzip", "none"], Doc("Of requests.")] = "gzip"
    ids: Annotated[
        Literal["offset", "none"],
        Doc("`offset`: each record is there once, whatever is repeated; `none`: append only, at least once."),
    ] = "offset"
    concurrency: Annotated[Count, Doc("Requests in flight, at most: a server that is busy or slow gets fewer.")] = 2
    timeout: Annotated[PositiveDuration, Doc("Of one request.")] = 30.0
    setup: Annotated[SetupConfig, Doc("What `shipper setup` makes of the index template.")] = SetupConfig()
    retention: Annotated[
        RetentionConfig | None, Doc("What `shipper setup` makes of old records: an ILM policy, on OpenSearch ISM.")
    ] = None

    def flaws(self) -> Iterator[Flaw]:
        if not self.hosts and self.cloud_id is None:
            yield Flaw(("hosts",), "is required, or cloud_id in its place")
        if self.hosts and self.cloud_id is not None:
            yield Flaw(("cloud_id",), "stands in place of hosts; take one of them out")
        if self.cloud_id is not None and cloud_host(self.cloud_id) is None:
            yield Flaw(("cloud_id",), "is none: it reads name:base64, as Elastic Cloud shows it")
        if self.auth.aws is not None and len(self.hosts) > 1:
            yield Flaw(("auth", "aws"), "signs for one host")
        literals = [part for part in self.index.parts if isinstance(part, str)]
        for wrong in (found[0] for text in literals if (found := _NOT_IN_INDEX.search(text))):
            yield Flaw(("index",), f"an index name cannot hold {wrong!r}")
        if self.index.text.startswith(("-", "_", "+")):
            yield Flaw(("index",), "an index name cannot begin with -, _ or +")
        if self.setup.failure_store and not self.data_stream:
            yield Flaw(("setup", "failure_store"), "only a data stream has one")
        if self.data_stream and "time" in self.index.placeholders:
            yield Flaw(
                ("index",), "a data stream rolls over by itself: leave {time:...} out, or set data_stream: false"
            )

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the nodes."""
        found = cloud_host(self.cloud_id) if self.cloud_id is not None else None
        return (found,) if found is not None else self.hosts


def cloud_host(cloud_id: str) -> str | None:
    """`name:base64(domain[:port]$elasticsearch[$kibana])` -> its URL; None when it is no such thing."""
    try:
        domain, _, rest = base64.b64decode(cloud_id.rpartition(":")[2], validate=True).decode("ascii").partition("$")
    except ValueError:
        return None
    name, (host, _, port) = rest.partition("$")[0], domain.partition(":")
    return f"https://{name}.{host}:{port or 443}" if name and host else None
