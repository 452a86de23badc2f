"""`shipper check --online`: is the server there, does it know us, may we write."""

import msgspec
import orjson

from shipper.errors import Disconnected, ShipperError
from shipper.outputs.base import Finding
from shipper.outputs.elasticsearch.client import Answer, ElasticsearchClient
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.elasticsearch.identify import Server, read_root
from shipper.outputs.elasticsearch.index_template import index_pattern, template_name
from shipper.outputs.elasticsearch.setup import find_template

PRIVILEGES = ("create_doc", "auto_configure")
TO_ASK = ("read", "view_index_metadata")  # before a repeat: shipper.outputs.elasticsearch.verify
_OPENSEARCH_PERMISSIONS = (
    "cluster permissions indices:data/write/bulk and indices:data/read/mget, "
    "index permissions create_index, index, get and indices:monitor/settings/get"
)
_MEND = {
    "timeout": "look at firewalls and network policies between this node and the server",
    "refused": "is the server running, and is the port in hosts right?",
    "dns": "look at the name in hosts",
    "tls": "give the server's CA as tls.ca_file; the name in hosts must be in the certificate",
    "proxy": "look at proxy: its address, username and password",
    "auth": "look at auth: are there credentials in the environment, or a role of this pod?",
    "reset": "the server hung up: does it want https:// in hosts (or http://)?",
}


class _Privileges(msgspec.Struct):
    has_all_requested: bool
    index: dict[str, dict[str, bool]] = {}


async def check(config: ElasticsearchConfig) -> list[Finding]:
    findings: list[Finding] = []
    reached: tuple[ElasticsearchConfig, Server] | None = None
    for host in config.urls:
        alone = msgspec.structs.replace(config, hosts=(host,), cloud_id=None)
        finding, server = await _check_host(alone, host)
        findings.append(finding)
        if server is not None and reached is None:
            reached = alone, server
    if reached is not None:
        alone, server = reached
        client = ElasticsearchClient(alone)
        try:
            findings.append(await _check_right_to_write(client, config, server))
            findings.append(await _check_template(client, config))
        except Disconnected as exc:
            findings.append(Finding(ok=False, what=str(exc), mend=_MEND.get(exc.reason, "")))
        finally:
            await client.close()
    return findings


async def _check_host(config: ElasticsearchConfig, host: str) -> tuple[Finding, Server | None]:
    try:
        client = ElasticsearchClient(config)
    except OSError as exc:  # ssl.SSLError is one
        return Finding(ok=False, what=f"{host}: the files of tls cannot be used: {exc}", mend="look at tls"), None
    try:
        answer = await client.request("GET", "/")
    except Disconnected as exc:
        return Finding(ok=False, what=f"{host}: {exc}", mend=_MEND.get(exc.reason, "")), None
    finally:
        await client.close()
    return _judge_root(answer, config, host)


def _judge_root(answer: Answer, config: ElasticsearchConfig, host: str) -> tuple[Finding, Server | None]:
    if answer.status == 401:
        finding = Finding(ok=False, what=f"{host}: the server does not accept these credentials", mend="look at auth")
        return finding, None
    if (
        answer.status == 403
    ):  # a user who may only write is not allowed more; which server it is must be said, or guessed
        server = Server("elasticsearch" if config.flavor == "elasticsearch" else "opensearch")
        return Finding(ok=True, what=f"{host}: reached, and the credentials are known"), server
    found = read_root(answer) if answer.status == 200 else None
    if found is None:
        what = f"{host}: what answers is neither Elasticsearch nor OpenSearch (status {answer.status})"
        return Finding(ok=False, what=what, mend="look at hosts: is there a proxy, a path?"), None
    if config.flavor not in ("auto", found.flavor):
        mend = f"say flavor: {found.flavor}, or auto"
        return Finding(ok=False, what=f"{host}: is {found}, not {config.flavor}", mend=mend), None
    return Finding(ok=True, what=f"{host}: {found}"), found


async def _check_right_to_write(client: ElasticsearchClient, config: ElasticsearchConfig, server: Server) -> Finding:
    pattern = index_pattern(config.index)
    if server.flavor == "opensearch":
        return Finding(
            ok=True,
            what=f"OpenSearch cannot be asked who may write to {pattern}: the first record shows it",
            mend=f"they need {_OPENSEARCH_PERMISSIONS} on {pattern}",
        )
    question = {"index": [{"names": [pattern], "privileges": [*PRIVILEGES, *TO_ASK]}]}
    answer = await client.request("POST", "/_security/user/_has_privileges", body=orjson.dumps(question))
    if answer.status != 200:  # security is switched off: there is no such path
        return Finding(ok=True, what=f"the server does not tell who may write to {pattern} (status {answer.status})")
    privileges = msgspec.json.decode(answer.body, type=_Privileges)
    if privileges.has_all_requested:
        return Finding(ok=True, what=f"may create documents, and indices for them, in {pattern}, and read there")
    granted = privileges.index.get(pattern, {})
    missing = " and ".join(name for name in PRIVILEGES if not granted.get(name))
    if not missing:
        lacked = " and ".join(name for name in TO_ASK if not granted.get(name))
        what = f"may create documents in {pattern}, but lacks {lacked}: repeats after a rollover may double documents"
        return Finding(ok=True, what=what, mend=f"grant their role {lacked} on {pattern}")
    what = f"these credentials lack {missing} on {pattern}"
    return Finding(ok=False, what=what, mend=f"grant their role {missing} on {pattern}")


async def _check_template(client: ElasticsearchClient, config: ElasticsearchConfig) -> Finding:
    name = template_name(config.index)
    try:
        found = await find_template(client, name)
    except ShipperError as exc:
        return Finding(ok=True, what=f"not known whether `shipper setup` was run: {exc}")
    if found is not None:
        return Finding(ok=True, what=f"index template {name} is there")
    return Finding(
        ok=True,
        what=f"index template {name} is not there: labels such as app and app.kubernetes.io/name will collide",
        mend="run `shipper setup`",
    )
