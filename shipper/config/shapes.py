"""What each key takes, read once from the models' annotations.

Loader, dump, JSON schema and reference page all go by these shapes, so that they cannot disagree.
"""

import types
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from shipper.conditions import Condition
from shipper.template import Template
from shipper.values import Doc, Kind, Placeholders, Secret


class Types(msgspec.Struct, frozen=True, eq=False):  # typing hashes its annotations, and a table has no hash
    """Marks a base class whose `type` key chooses among models: `noun` is what a person calls them."""

    noun: str
    table: Mapping[str, type[msgspec.Struct]]


class Scalar(msgspec.Struct, frozen=True):
    kind: str  # string, boolean, integer, any, or the name of a values.Kind


class SecretText(msgspec.Struct, frozen=True):
    pass


class TemplateText(msgspec.Struct, frozen=True):
    placeholders: tuple[str, ...]
    required: str


class When(msgspec.Struct, frozen=True):
    pass


class Choice(msgspec.Struct, frozen=True):
    words: tuple[str, ...]


class ListOf(msgspec.Struct, frozen=True):
    item: "Shape"


class MapOf(msgspec.Struct, frozen=True):
    value: "Shape"


class Model(msgspec.Struct, frozen=True):
    """`like`: what the whole mapping is by default, and so the defaults of its keys where only some are written."""

    model: type[msgspec.Struct]
    like: msgspec.Struct | None = None

    def fields(self) -> tuple["Field", ...]:
        if self.like is None:
            return fields_of(self.model)
        return tuple(
            msgspec.structs.replace(field, make_default=partial(getattr, self.like, field.name))
            for field in fields_of(self.model)
        )


class ByType(msgspec.Struct, frozen=True):
    noun: str
    table: Mapping[str, type[msgspec.Struct]]


class ChoiceOr(msgspec.Struct, frozen=True):
    """One of some words, or a mapping."""

    choice: Choice
    model: Model


Shape = Scalar | SecretText | TemplateText | When | Choice | ListOf | MapOf | Model | ByType | ChoiceOr


class Field(msgspec.Struct, frozen=True):
    name: str
    shape: Shape
    doc: str
    make_default: Callable[[], Any] | None  # None where there is none
    default_is_found: bool  # depends on the machine
    off: bool  # takes `off`, which is None in the model

    @property
    def required(self) -> bool:
        return self.make_default is None

    @property
    def default(self) -> Any:
        return None if self.make_default is None else self.make_default()


@cache
def fields_of(model: type[msgspec.Struct]) -> tuple[Field, ...]:
    hints = get_type_hints(model, include_extras=True)
    return tuple(_field(info, hints[info.name]) for info in msgspec.structs.fields(model))


def _field(info: msgspec.structs.FieldInfo, hint: Any) -> Field:
    doc = next(mark.text for mark in hint.__metadata__ if isinstance(mark, Doc))
    shape = shape_of(hint)
    if isinstance(shape, Model) and isinstance(info.default, msgspec.Struct):
        shape = msgspec.structs.replace(shape, like=info.default)
    return Field(
        name=info.name,
        shape=shape,
        doc=doc,
        make_default=_make_default(info),
        default_is_found=info.default_factory is not msgspec.NODEFAULT and shape == Scalar("string"),
        off=_takes_none(hint) and not info.required and info.default is not None,
    )


def _make_default(info: msgspec.structs.FieldInfo) -> Callable[[], Any] | None:
    if info.required:
        return None
    return info.default_factory if info.default is msgspec.NODEFAULT else lambda: info.default


def _takes_none(hint: Any) -> bool:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return types.NoneType in get_args(inner)


def shape_of(hint: Any) -> Shape:
    if get_origin(hint) is Annotated:
        hint, *marks = get_args(hint)
        for mark in marks:
            match mark:
                case Types(noun=noun, table=table):
                    return ByType(noun, table)
                case Placeholders(names, required) if hint is Template:
                    return TemplateText(names, required)
                case Kind(name):
                    return Scalar(name)
    plain = {str: "string", bool: "boolean", int: "integer", Any: "any"}
    if hint in plain:
        return Scalar(plain[hint])
    if hint is Secret:
        return SecretText()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return Model(hint)
    match get_origin(hint), get_args(hint):
        case (origin, words) if origin is Literal:
            return Choice(words)
        case (origin, (item, last)) if origin is tuple and last is Ellipsis:
            return ListOf(shape_of(item))
        case (origin, (_, value)) if origin is dict:
            return MapOf(shape_of(value))
        case (origin, members) if origin in (Union, types.UnionType):
            return _union([member for member in members if member is not types.NoneType])
    raise TypeError(f"no shape is known for {hint}")


def _union(members: list[Any]) -> Shape:
    if set(members) == set(get_args(Condition)):
        return When()
    shapes = [shape_of(member) for member in members]
    match shapes:
        case [single]:
            return single
        case [Choice() as choice, Model() as model]:
            return ChoiceOr(choice, model)
    raise TypeError(f"no shape is known for a union of {members}")
