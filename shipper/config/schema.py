"""The JSON schema of the configuration, for editors; from the same shapes that the loader goes by.

It is as strict as a schema can be with `${NAME}` standing anywhere; what only the loader can know (files, names,
templates) it leaves to the loader.
"""

from typing import Any

from shipper.conditions import NAMED_SUBJECTS, PLAIN_SUBJECTS
from shipper.config.model import Config
from shipper.config.shapes import (
    ByType,
    Choice,
    ChoiceOr,
    Field,
    ListOf,
    MapOf,
    Model,
    Scalar,
    SecretText,
    Shape,
    TemplateText,
    When,
)
from shipper.config.show import show_field

Schema = dict[str, Any]

_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_DURATION = r"^\s*\d+(\.\d+)?(ms|s|m|h|d)\s*$|\$\{"
_SIZE = r"^\s*\d+(\.\d+)?\s?(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)\s*$|\$\{"
_SCALARS: dict[str, Schema] = {
    "string": {"type": "string"},
    "boolean": {"anyOf": [{"type": "boolean"}, _REFERENCE]},
    "integer": {"anyOf": [{"type": "integer"}, _REFERENCE]},
    "count": {"anyOf": [{"type": "integer", "minimum": 1}, _REFERENCE]},
    "any": {},
    "duration": {"type": "string", "pattern": _DURATION},
    "positive duration": {"type": "string", "pattern": _DURATION},
    "size": {"type": "string", "pattern": _SIZE},
    "positive size": {"type": "string", "pattern": _SIZE},
    "names": {"anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "url": {"type": "string", "pattern": r"^https?://|\$\{"},
}
_OFF = {"enum": ["off", False]}


def json_schema() -> Schema:
    """JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "shipper",
        **_model(Model(Config)),
        "$defs": {"condition": _condition()},
    }


def _model(shape: Model, *, type_name: str = "") -> Schema:
    fields = shape.fields()
    properties = {field.name: _field(field) for field in fields}
    required = [field.name for field in fields if field.required]
    if type_name:
        properties = {"type": {"const": type_name}} | properties
        required.insert(0, "type")
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _field(field: Field) -> Schema:
    alternatives = [_shape(field.shape)]
    if field.off:
        alternatives.append(_OFF)
    if not field.required:
        alternatives.append({"type": "null"})
    schema = alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}
    schema = {"description": field.doc, **schema}
    default = None if field.required or field.default_is_found else show_field(field, field.default)
    return schema if default is None else schema | {"default": default}


def _shape(shape: Shape) -> Schema:
    match shape:
        case Scalar(kind):
            return _SCALARS.get(kind, _SCALARS["string"])
        case TemplateText():
            return {"type": "string"}
        case SecretText():
            file = {"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"]}
            return {"anyOf": [{"type": "string"}, file | {"additionalProperties": False}]}
        case When():
            return {"$ref": "#/$defs/condition"}
        case Choice(words):
            choices = {"enum": [*words, *([False] if "off" in words else [])]}
            return {"anyOf": [choices, _REFERENCE]}
        case ChoiceOr(choice, model):
            return {"anyOf": [_shape(choice), _shape(model)]}
        case ListOf(Scalar() as item):
            return {"anyOf": [_shape(item), {"type": "array", "items": _shape(item)}]}
        case ListOf(item):
            return {"type": "array", "items": _shape(item)}
        case MapOf(value):
            return {"type": "object", "additionalProperties": _shape(value)}
        case Model():
            return _model(shape)
        case ByType(_, table):
            return {"oneOf": [_model(Model(model), type_name=name) for name, model in table.items()]}


def _condition() -> Schema:
    this = {"$ref": "#/$defs/condition"}
    parts = {"type": "array", "items": this}
    text = {"type": ["string", "number", "boolean"]}
    tests: Schema = {
        "equals": text,
        "in": {"type": "array", "items": text, "minItems": 1},
        "matches": {"type": "string"},
        "exists": {"type": "boolean"},
    }
    named = [_test({subject: {"type": "string"}}, tests) for subject in NAMED_SUBJECTS]
    plain = [_test({subject: {"type": [*text["type"], "array", "null"]}}, tests) for subject in PLAIN_SUBJECTS]
    groups = [_test({key: inner}, {}) for key, inner in {"any": parts, "all": parts, "not": this}.items()]
    return {"anyOf": [parts, *named, *plain, *groups]}


def _test(subject: Schema, tests: Schema) -> Schema:
    return {
        "type": "object",
        "properties": subject | tests,
        "required": list(subject),
        "additionalProperties": False,
    }
