"""Where an archived document belongs: what the live path knew of its record is read back out of the document."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from shipper.conditions import field_of
from shipper.config.model import Config
from shipper.document import Head
from shipper.errors import ShipperError
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.outputs.base import Output
from shipper.record import Source

_RESERVED = frozenset({"@timestamp", "stream", "kubernetes", "file"})


class Unplaceable(ShipperError):
    """The document does not tell what the output's target is made of."""


class _Kubernetes(msgspec.Struct):
    namespace_name: str | None = None
    pod_name: str | None = None
    container_name: str | None = None
    host: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _OfContainer(msgspec.Struct):
    kubernetes: _Kubernetes


class _File(msgspec.Struct, frozen=True):
    path: str = ""


class _OfFile(msgspec.Struct):
    file: _File = _File()


_of_container = msgspec.json.Decoder(_OfContainer).decode
_of_file = msgspec.json.Decoder(_OfFile).decode


class Places:
    """Targets of documents, for one output of a configuration."""

    def __init__(self, config: Config, output: Output) -> None:
        """Raises ShipperError when no document tells what the output's target is made of."""
        self._template, self._style = output.template, output.target_style
        self._is_fixed = self._template.placeholders <= {"time"}
        self._static = frozenset(config.service.fields)
        self._kept = {"label": _kept(config, "labels"), "annotation": _kept(config, "annotations")}
        if "tag" in self._template.placeholders:
            raise ShipperError(
                f"the target of output {output.name} ({self._template}) depends on {{tag}}, which archived documents "
                "do not tell: name an output whose target does not"
            )

    def namespace(self, document: bytes, head: Head) -> str | None:
        return self._source(document, head)[0].namespace

    def target(self, document: bytes, head: Head) -> str:
        """Raises Unplaceable."""
        if self._is_fixed:
            return self._template.render(lambda _kind, _name: None, style=self._style, time=head.time)
        source, kubernetes = self._source(document, head)

        def value(kind: str, name: str) -> str | None:
            if kind == "field":
                return self._field(document, name)
            if not head.is_container and kind != "node":
                return source.value(kind)
            return self._of_pod(kind, name, source, kubernetes)

        return self._template.render(value, style=self._style, time=head.time)

    def _source(self, document: bytes, head: Head) -> tuple[Source, _Kubernetes]:
        """Raises Unplaceable when it is no document as this program writes them."""
        try:
            if not head.is_container:
                return Source("", _of_file(document).file.path), _Kubernetes()
            own = _of_container(document).kubernetes
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise Unplaceable(f"it cannot be read: {exc}") from exc
        return Source("", "", own.namespace_name, own.pod_name, None, own.container_name), own

    def _of_pod(self, kind: str, name: str, source: Source, kubernetes: _Kubernetes) -> str | None:
        if kind in self._kept:
            known = kubernetes.labels if kind == "label" else kubernetes.annotations
            if not any(fnmatch.fnmatchcase(name, glob) for glob in self._kept[kind]):
                raise Unplaceable(f"documents do not hold the {kind} {name}, of which the target is made")
            if kubernetes.host is None:
                raise Unplaceable(f"it was archived before its pod's {kind}s were known, of which the target is made")
            return known.get(name)
        found = kubernetes.host if kind == "node" else source.value(kind) or None
        if found is None:
            raise Unplaceable(f"it does not tell its {kind}, of which the target is made")
        return found

    def _field(self, document: bytes, name: str) -> str | None:
        """As the application wrote it: what we had to rename has its own name again."""
        fields = _fields(document)
        first, dot, rest = name.partition(".")
        is_renamed = first in _RESERVED or first in self._static
        found = field_of(fields, f"{first}_original{dot}{rest}" if is_renamed else name)
        if found is None and isinstance(message := fields.get("message"), str):
            found = field_of(_fields(message.encode()), name)  # of a configuration without the json filter
        return None if found is None or isinstance(found, dict | list) else str(found)


def _fields(text: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _kept(config: Config, key: str) -> Sequence[str]:
    """Names and globs of the labels or annotations that stand in documents."""
    return [glob for each in config.filters if isinstance(each, KubernetesConfig) for glob in getattr(each, key)]
