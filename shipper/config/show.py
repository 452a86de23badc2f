"""The resolved configuration as YAML, for people: everything that is in force, and no secret.

It loads again to an equal configuration, but for secrets that stood in the file or the environment.
"""

import hashlib
from typing import Any

import msgspec
import orjson
import yaml

from shipper.conditions import NAMED_SUBJECTS, All, AnyOf, Condition, Not, Test
from shipper.config.model import Config
from shipper.config.shapes import ByType, ChoiceOr, Field, ListOf, MapOf, Model, Scalar, Shape, When, fields_of
from shipper.config.source import escape
from shipper.template import Template
from shipper.values import Secret, show_duration, show_size

HIDDEN = "<secret>"


def dump(config: Config) -> str:
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=120)


def config_hash(config: Config) -> int:
    """48 bits, as Alertmanager has it: a number that changes with the content, secrets apart; exact as a float.

    Of JSON, since every start pays for it, and YAML takes twenty times as long.
    """
    return int.from_bytes(hashlib.sha256(orjson.dumps(_plain(config))).digest()[:6], "big")


def _plain(config: Config) -> dict[str, Any]:
    return show_model(Model(Config), config)


def show_model(shape: Model | ByType, value: msgspec.Struct) -> dict[str, Any]:
    head = {}
    if isinstance(shape, ByType):
        head["type"] = next(name for name, model in shape.table.items() if type(value) is model)
    shown = {field.name: show_field(field, getattr(value, field.name)) for field in fields_of(type(value))}
    return head | {name: plain for name, plain in shown.items() if plain is not None}


def show_field(field: Field, value: Any) -> Any:
    """As it is written in YAML; None where nothing is."""
    if value is None:
        return "off" if field.off else None
    return show(field.shape, value)


def show(shape: Shape, value: Any) -> Any:
    match shape:
        case Scalar("duration" | "positive duration"):
            return show_duration(value)
        case Scalar("size" | "positive size"):
            return show_size(value)
        case Scalar("names"):
            return True if value == ("*",) else [escape(name) for name in value]
        case ListOf(item):
            return [show(item, entry) for entry in value]
        case MapOf(item):
            return {key: show(item, entry) for key, entry in value.items()}
        case When():
            return show_condition(value)
        case ChoiceOr(_, model) if isinstance(value, msgspec.Struct):
            return show_model(model, value)
        case Model() | ByType():
            return show_model(shape, value)
    if isinstance(value, Secret):
        return HIDDEN if value.file is None else {"file": escape(value.file)}
    if isinstance(value, Template):
        return escape(value.text)
    return show_plain(value)


def show_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: show_plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [show_plain(inner) for inner in value]
    return escape(value) if isinstance(value, str) else value


def show_condition(condition: Condition) -> Any:
    match condition:
        case All(parts):
            return [show_condition(part) for part in parts]
        case AnyOf(parts):
            return {"any": [show_condition(part) for part in parts]}
        case Not(part):
            return {"not": show_condition(part)}
        case Test():
            return _show_test(condition)


def _show_test(test: Test) -> dict[str, Any]:
    values = [escape(value) for value in test.values]
    argument: Any = values if test.test == "in" else test.exists
    if test.test == "equals":
        argument = values[0]
    elif test.pattern is not None:
        argument = escape(test.pattern.pattern)
    if test.subject in NAMED_SUBJECTS:
        return {test.subject: escape(test.name), test.test: argument}
    if test.test in ("equals", "in"):
        return {test.subject: argument}
    return {test.subject: None, test.test: argument}
