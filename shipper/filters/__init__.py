"""Filters: what happens to records on the way. A new one is a folder or file here, and a line in this table.

A filter that only decides (json, tag, drop) is its configuration: the router reads it, once per container where it can.
"""

from shipper.filters.config import FilterConfig
from shipper.filters.drop import DropConfig
from shipper.filters.json import JsonConfig
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.tag import TagConfig

_MODELS: tuple[type[FilterConfig], ...] = (KubernetesConfig, JsonConfig, TagConfig, DropConfig)
FILTERS = {model.kind: model for model in _MODELS}
