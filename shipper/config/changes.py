"""What one configuration asks for that another did not: what a reload has to touch, and what it must leave alone."""

from collections.abc import Sequence
from typing import Any

import msgspec

from shipper.config.model import Config
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.outputs.config import OutputConfig

NEEDS_RESTART = ("state_dir", "http")  # keys of `service`


class ConfigChanges(msgspec.Struct, frozen=True):
    """`config` is what can be in force without a restart; names are those of components."""

    config: Config
    outputs: frozenset[str] = frozenset()  # to be made: new, or with other settings
    inputs: frozenset[str] = frozenset()  # likewise
    metadata: bool = False  # the kubernetes filter is another one
    said: tuple[str, ...] = ()  # all that differs, as a person would name it
    needs_restart: tuple[str, ...] = msgspec.field(default=())


def compare(old: Config, new: Config) -> ConfigChanges:
    """`old` is in force. An output of which only `match` differs is the same output: its rule is another."""
    service, restart = _service(old, new)
    config = msgspec.structs.replace(new, service=service)
    outputs = _different([_delivery(o) for o in old.outputs], [_delivery(o) for o in new.outputs])
    inputs = _different(old.inputs, new.inputs)
    said = [f"service.{key}" for key in _different_keys(old.service, service)]
    said += _named("inputs", old.inputs, new.inputs)
    said += ["filters"] if old.filters != new.filters else []
    said += _named("outputs", old.outputs, new.outputs)
    if not said and old != config:
        said = ["order"]
    return ConfigChanges(
        config,
        outputs=outputs,
        inputs=inputs,
        metadata=metadata_of(old) != metadata_of(new),
        said=tuple(said),
        needs_restart=tuple(f"service.{key}" for key in restart),
    )


def metadata_of(config: Config) -> KubernetesConfig | None:
    """The filter that asks the Kubernetes API."""
    return next((each for each in config.filters if isinstance(each, KubernetesConfig)), None)


def _service(old: Config, new: Config) -> tuple[Any, list[str]]:
    """The new settings, but for those that hold until the process ends; and which these are, where they differ."""
    restart = [key for key in NEEDS_RESTART if getattr(old.service, key) != getattr(new.service, key)]
    kept = {key: getattr(old.service, key) for key in restart}
    return msgspec.structs.replace(new.service, **kept), restart


def _delivery(config: OutputConfig) -> OutputConfig:
    return msgspec.structs.replace(config, match=("*",))


def _different(old: Sequence[Any], new: Sequence[Any]) -> frozenset[str]:
    before = {each.name: each for each in old}
    return frozenset(each.name for each in new if before.get(each.name) != each)


def _different_keys(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    return [key for key in old.__struct_fields__ if getattr(old, key) != getattr(new, key)]


def _named(kind: str, old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    gone = {each.name for each in old} - {each.name for each in new}
    return [f"{kind}.{name}" for name in sorted(_different(old, new) | gone)]
