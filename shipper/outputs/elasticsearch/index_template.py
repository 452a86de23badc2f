"""The index template that suits our documents: bodies only, no requests.

Labels are one `flattened` field, since `app` beside `app.kubernetes.io/name` cannot be mapped as objects; what
applications add is mapped as it comes, but within limits; a value that does not fit its field is kept without
being searchable.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.elasticsearch.identify import Server
from shipper.template import Template

PRIORITY = 200  # the built-in template for logs-*-* has 100
META = {"managed_by": "shipper", "description": "Container logs, as `shipper setup` made it."}
KEYWORD_LIMIT = 1024  # characters; longer values are kept, and not searchable
FLATTENED_LIMIT = 8191  # Lucene takes terms of at most 32,766 bytes: 4 bytes a character at worst

# What a server adds to a template, or fills in: said apart (data_stream), or of no interest.
_SERVERS_OWN = dict.fromkeys(
    ("data_stream", "created_date", "created_date_millis", "modified_date", "modified_date_millis")
)

_KEYWORD = {"type": "keyword", "ignore_above": KEYWORD_LIMIT}


def index_pattern(template: Template) -> str:
    """`logs-{namespace}-{container}` -> `logs-*-*`."""
    return re.sub(r"\*+", "*", "".join(part if isinstance(part, str) else "*" for part in template.parts))


def template_name(template: Template) -> str:
    """One for each pattern: two outputs that write to the same indices share it."""
    return "shipper-" + index_pattern(template).replace("*", "any").strip(".")


def has_alias(config: ElasticsearchConfig) -> bool:
    """Whether `index` is an alias of indices that roll over."""
    return not config.data_stream and config.retention is not None and not config.index.placeholders


def rolls_over(config: ElasticsearchConfig) -> bool:
    return config.data_stream or has_alias(config)


def patterns(config: ElasticsearchConfig) -> list[str]:
    """Of the indices that are written to: an alias stands before a number."""
    return [index_pattern(config.index) + ("-*" if has_alias(config) else "")]


def build_index_template(config: ElasticsearchConfig, server: Server) -> dict[str, Any]:
    name = template_name(config.index)
    parts = [mappings_name(name), settings_name(name)]
    body: dict[str, Any] = {
        "index_patterns": patterns(config),
        "priority": PRIORITY,
        "composed_of": parts,
        "_meta": META,
    }
    if server.flavor == "elasticsearch":  # for what a site has of its own: number of shards, more fields
        body |= {"composed_of": [*parts, f"{name}-custom"], "ignore_missing_component_templates": [f"{name}-custom"]}
    if config.data_stream:
        body["data_stream"] = {"allow_custom_routing": True} if config.routing is not None else {}
    return body


def mappings_name(template: str) -> str:
    return f"{template}-mappings"


def settings_name(template: str) -> str:
    return f"{template}-settings"


def build_mappings(server: Server) -> dict[str, Any]:
    """A component template."""
    return {"template": {"mappings": _mappings(server)}, "_meta": META}


def build_settings(config: ElasticsearchConfig, server: Server) -> dict[str, Any]:
    """A component template."""
    template: dict[str, Any] = {"settings": _settings(config, server)}
    if config.data_stream and _has_failure_store(server):
        # Said either way: a cluster may have it on for all of logs-*.
        template["data_stream_options"] = {"failure_store": {"enabled": config.setup.failure_store}}
    return {"template": template, "_meta": META}


def _has_failure_store(server: Server) -> bool:
    """https://www.elastic.co/docs/manage-data/data-store/data-streams/failure-store"""
    return server.flavor == "elasticsearch" and ((8, 19) <= server.version < (9,) or server.version >= (9, 1))


def unmet(config: ElasticsearchConfig, server: Server) -> str:
    """What is configured and this server does not have; empty when all is well."""
    if config.setup.logsdb and (server.flavor == "opensearch" or server.version < (8, 17)):
        return f"setup.logsdb needs Elasticsearch 8.17 or newer, and this is {server}"
    if config.setup.failure_store and not _has_failure_store(server):
        return f"setup.failure_store needs Elasticsearch 8.19, or 9.1 or newer, and this is {server}"
    if config.data_stream and config.routing is not None and server.flavor == "opensearch":
        return "a data stream of OpenSearch takes no routing: leave it out, or set data_stream: false"
    return ""


def _settings(config: ElasticsearchConfig, server: Server) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "index.mapping.total_fields.limit": config.setup.max_fields,
        "index.mapping.ignore_malformed": True,
    }
    # https://www.elastic.co/docs/reference/elasticsearch/index-settings/mapping-limit: since 8.14; OpenSearch
    # has no such thing
    if server.flavor == "elasticsearch" and server.version >= (8, 14):
        settings["index.mapping.total_fields.ignore_dynamic_beyond_limit"] = True
    if config.setup.logsdb:
        settings["index.mode"] = "logsdb"
    if config.retention is not None and server.flavor == "elasticsearch":
        settings["index.lifecycle.name"] = template_name(config.index)
    if has_alias(config):
        is_ours = server.flavor == "elasticsearch"
        prefix = "index.lifecycle" if is_ours else "plugins.index_state_management"
        settings[f"{prefix}.rollover_alias"] = config.index.text
    return settings


def _mappings(server: Server) -> dict[str, Any]:
    if server.flavor == "opensearch":
        names: dict[str, Any] = {"type": "flat_object"}
    else:
        names = {"type": "flattened", "ignore_above": FLATTENED_LIMIT}
    return {
        "date_detection": False,  # or the first value of a field would decide that all others must be dates
        "dynamic_templates": [{"strings": {"match_mapping_type": "string", "mapping": _KEYWORD}}],
        "properties": {
            "@timestamp": {"type": "date_nanos"},
            "stream": _KEYWORD,
            "message": {"type": "text"},
            "level": _KEYWORD,  # a word, or pino's number
            "truncated": {"type": "boolean"},
            "parse_error": _KEYWORD,
            "file": {"properties": {"path": _KEYWORD, "offset": {"type": "long"}}},
            "kubernetes": {
                "properties": {
                    "namespace_name": _KEYWORD,
                    "pod_name": _KEYWORD,
                    "pod_id": _KEYWORD,
                    "container_name": _KEYWORD,
                    "container_image": _KEYWORD,
                    "host": _KEYWORD,
                    "labels": names,
                    "annotations": names,
                    "namespace_labels": names,
                    "node_labels": names,
                    "owner": {"properties": {"kind": _KEYWORD, "name": _KEYWORD}},
                }
            },
        },
    }


def differences(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each setting, in words; empty when the server has what is wanted.

    The server gives settings back nested and as text, and adds members of its own: neither is a difference.
    """
    before, after = (dict(_flatten({**body, **_SERVERS_OWN})) for body in (current, wanted))
    lines = []
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            lines.append(f"+ {path}: {after[path]}")
        elif path not in after:
            lines.append(f"- {path}: {before[path]}")
        elif before[path] != after[path]:
            lines.append(f"~ {path}: {before[path]} -> {after[path]}")
    return [*lines, *_data_stream_differences(current, wanted)]


def _data_stream_differences(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    if ("data_stream" in current) != ("data_stream" in wanted):
        return ["+ data_stream" if "data_stream" in wanted else "- data_stream"]
    before, after = (body.get("data_stream", {}).get("allow_custom_routing", False) for body in (current, wanted))
    return [f"~ data_stream.allow_custom_routing: {json.dumps(before)} -> {json.dumps(after)}"] * (before != after)


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, member in value.items():
            yield from _flatten(member, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, sort_keys=True)
