"""YAML to a checked `Config`, with every problem in one run.

A model with an unreadable value is built all the same, with WRONG in its place, so that what stands beside it is looked
at too; since any problem ends in ConfigError, WRONG never leaves this module. What a component demands of its keys
together (`flaws`) is heard up to where it needs a value that could not be read.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from shipper.conditions import ConditionError, parse_condition
from shipper.config import checks, scalars, wording
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
from shipper.config.source import Word, compose, read_word
from shipper.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
Entries = dict[str, tuple[yaml.Node, yaml.Node]]  # key -> (its own node, its value's)


class _Wrong:
    """Can be told by identity; any other use raises TypeError or AttributeError."""

    def __bool__(self) -> bool:
        raise TypeError("an unreadable value was used")

    def __eq__(self, other: object) -> bool:
        raise TypeError("an unreadable value was used")

    __hash__ = None  # type: ignore[assignment]  # so that it cannot be looked up either


WRONG: Final[Any] = _Wrong()
_OFF: Final[Any] = object()
_MOST_PLAIN_VALUES = 10_000  # an alias of aliases of aliases grows without end
_DEEPEST_PLAIN_VALUE = 50
_EMPTY = yaml.MappingNode("tag:yaml.org,2002:map", [], yaml.Mark("", 0, 0, 0, None, 0), None)


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Raises ConfigError, with every problem of the file."""
    file = os.fspath(path)
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError([Problem(file, 1, 1, "", f"cannot be read: {exc.strerror}")]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([Problem(file, 1, 1, "", f"is not UTF-8: byte {exc.start} cannot be decoded")]) from exc
    return load_text(text, file=file, environ=environ)


def load_text(text: str, *, file: str = "<text>", environ: Mapping[str, str] = os.environ) -> Config:
    """Raises ConfigError; `file` is what its problems call the text."""
    reader = _Reader(file, environ)
    config: Config = reader.read_root(compose(text, file))
    if reader.problems:
        raise ConfigError(sorted(reader.problems, key=lambda p: (p.line, p.column, p.path)))
    return config


def show_path(path: KeyPath) -> str:
    """`("outputs", 0, "retry")` -> `outputs[0].retry`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


class _Reader:
    """One walk over the nodes, by the models' shapes.

    What is called `read...` gives the value, None for null, or WRONG after a complaint.
    """

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = environ
        self.problems: list[Problem] = []
        self.places: dict[KeyPath, tuple[int, int]] = {(): (1, 1)}
        self.wrong: set[KeyPath] = set()  # of every problem
        self.unreadable: set[KeyPath] = set()  # of those that left WRONG behind
        self.plain_values = 0

    def read_root(self, node: yaml.Node | None) -> Any:
        config = self.read(Model(Config), node or _EMPTY, ())
        if config is None:
            config = self.read(Model(Config), _EMPTY, ())
        if isinstance(config, Config):
            for flaw in checks.find_flaws(config, self.is_wrong):
                self.complain(flaw.path, flaw.sentence)
        return config

    # -- problems and places

    def note(self, path: KeyPath, node: yaml.Node) -> None:
        self.places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def complain(self, path: KeyPath, sentence: str, node: yaml.Node | None = None) -> None:
        """At the node, or at the nearest place that is known for the path."""
        if node is not None:
            self.note(path, node)
        place = next(self.places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.places)
        self.problems.append(Problem(self.file, *place, show_path(path), sentence))
        self.wrong.add(path)

    def refuse(self, path: KeyPath, sentence: str) -> Any:
        self.complain(path, sentence)
        self.unreadable.add(path)
        return WRONG

    def is_wrong(self, path: KeyPath) -> bool:
        """Whether a problem is known of this key, of something below it, or of what holds it."""
        return any(wrong[: len(path)] == path or path[: len(wrong)] == wrong for wrong in self.wrong)

    def is_unreadable(self, path: KeyPath) -> bool:
        """Whether there is WRONG here or below."""
        return any(place[: len(path)] == path for place in self.unreadable)

    # -- nodes

    def read(self, shape: Shape, node: yaml.Node, path: KeyPath) -> Any:
        self.note(path, node)
        if not node.tag.startswith("tag:yaml.org,2002:"):
            return self.refuse(path, f"has the YAML tag {node.tag}, which means nothing here")
        match shape, node:
            case _, yaml.ScalarNode():
                word = self.read_word(node, path)
                return word if word is None or word is WRONG else self.read_scalar(shape, word, path)
            case When(), _:
                return self.read_condition(node, path)
            case Scalar("any"), _:
                return self.read_plain(node, path, texts=False)
            case Scalar("names"), yaml.SequenceNode():
                return self.read_list(Scalar("glob"), node, path)
            case ListOf(item), yaml.SequenceNode():
                return self.read_list(item, node, path)
            case (((Model() as model) | ChoiceOr(_, model)), yaml.MappingNode()):
                return self.read_model(model, self.entries(node, path), path)
            case ByType(), yaml.MappingNode():
                return self.read_typed(shape, self.entries(node, path), path)
            case MapOf(value), yaml.MappingNode():
                entries = self.entries(node, path)
                return {key: self.read(value, inner, (*path, key)) for key, (_, inner) in entries.items()}
            case SecretText(), yaml.MappingNode():
                return self.read_secret_file(self.entries(node, path), path)
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        return self.refuse(path, f"takes {wording.describe(shape)}, not {kind}")

    def entries(self, node: yaml.MappingNode, path: KeyPath) -> Entries:
        found: Entries = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain(path, "a key must be plain text", key_node)
                continue
            key = key_node.value
            if key in found:
                first = found[key][0].start_mark.line + 1
                self.complain((*path, key), f"is given twice; the first is in line {first}", key_node)
                continue
            found[key] = key_node, value_node
        return found

    # -- scalars

    def read_word(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            word = read_word(node, self.environ)
        except ValueError as exc:
            return self.refuse(path, str(exc))
        return None if word.value is None else word

    def read_scalar(self, shape: Shape, word: Word, path: KeyPath) -> Any:
        try:
            match shape:
                case Scalar("any"):
                    return word.value
                case Scalar("names"):
                    return scalars.read_names(word)
                case Scalar(kind):
                    return scalars.READERS[kind](word)
                case SecretText():
                    return scalars.read_secret(word)
                case TemplateText(placeholders, required):
                    return scalars.read_template(word, placeholders, required)
                case Choice(words):
                    return scalars.read_choice(word, words)
                case ChoiceOr(Choice(words), _):
                    return scalars.read_choice(word, words, or_else="a mapping")
                case ListOf(Scalar() as item):  # a list of one may be written as its element
                    return (self.read_scalar(item, word, path),)
        except ValueError as exc:
            return self.refuse(path, str(exc))
        return self.refuse(path, f"takes {wording.describe(shape)}")

    def read_secret_file(self, entries: Entries, path: KeyPath) -> Any:
        if list(entries) != ["file"]:
            return self.refuse(path, "takes a string, or {file: /path} to read it from a file")
        file = self.read(Scalar("string"), entries["file"][1], (*path, "file"))
        if file is WRONG:
            return WRONG
        try:
            return scalars.read_secret_file(file or "")
        except ValueError as exc:
            return self.refuse((*path, "file"), str(exc))

    # -- lists and models

    def read_list(self, item: Shape, node: yaml.SequenceNode, path: KeyPath) -> Any:
        values = []
        for i, inner in enumerate(node.value):
            value = self.read(item, inner, (*path, i))
            values.append(self.refuse((*path, i), "is empty") if value is None else value)
        return tuple(values)

    def read_typed(self, shape: ByType, entries: Entries, path: KeyPath) -> Any:
        if "type" not in entries:
            return self.refuse((*path, "type"), f"is required; there are {', '.join(shape.table)}")
        _, node = entries.pop("type")
        name = self.read(Scalar("string"), node, (*path, "type"))
        if name is WRONG:
            return WRONG
        model = shape.table.get(name or "")
        if model is None:
            advice = wording.suggest(name or "", shape.table)
            return self.refuse((*path, "type"), f'there is no {shape.noun} "{name or ""}"; {advice}')
        return self.read_model(Model(model), entries, path)

    def read_model(self, shape: Model, entries: Entries, path: KeyPath) -> Any:
        fields = {field.name: field for field in shape.fields()}
        for key, (key_node, _) in entries.items():
            if key not in fields:
                self.complain((*path, key), f"unknown key; {wording.suggest(key, fields)}", key_node)
        values = {}
        for field in fields.values():
            entry = entries.get(field.name)
            value = None if entry is None else self.read_field(field, entry[1], (*path, field.name))
            if value is not None:
                values[field.name] = None if value is _OFF else value
            elif field.required:
                values[field.name] = self.refuse((*path, field.name), "is required")
            else:
                values[field.name] = field.default
        built = shape.model(**values)
        try:
            for flaw in getattr(built, "flaws", tuple)():
                self.complain((*path, *flaw.path), flaw.sentence)
        except (TypeError, AttributeError):
            if not self.is_unreadable(path):
                raise
        return built

    def read_field(self, field: Field, node: yaml.Node, path: KeyPath) -> Any:
        if field.off and isinstance(node, yaml.ScalarNode):
            self.note(path, node)
            word = self.read_word(node, path)
            if word is None or word is WRONG:
                return word
            return _OFF if scalars.is_off(word) else self.refuse(path, "takes a mapping, or off")
        value = self.read(field.shape, node, path)
        if field.required and isinstance(value, tuple) and not value:
            return self.refuse(path, "is empty")
        return value

    # -- values that no shape describes

    def read_condition(self, node: yaml.Node, path: KeyPath) -> Any:
        plain = self.read_plain(node, path, texts=True)
        if self.is_unreadable(path):
            return WRONG
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of sets in regular expressions that may mean more one day
            return self.parse_condition(plain, path)

    def parse_condition(self, plain: Any, path: KeyPath) -> Any:
        """Each part by itself where the whole is wrong, since a ConditionError tells of the first only."""
        try:
            return parse_condition(plain)
        except ConditionError as exc:
            parts = _parts_of_condition(plain)
            if not [key for key, part in parts if self.parse_condition(part, (*path, *key)) is WRONG]:
                self.complain((*path, *exc.path), str(exc))
        self.unreadable.add(path)
        return WRONG

    def read_plain(self, node: yaml.Node, path: KeyPath, *, texts: bool) -> Any:
        """As JSON would have it; with `texts`, numbers stay as they were written: a label `1.10` is not 1.1."""
        self.note(path, node)
        self.plain_values += 1
        if self.plain_values > _MOST_PLAIN_VALUES or len(path) > _DEEPEST_PLAIN_VALUE:
            return self.refuse(path, "is too large, or nested too deeply")
        match node:
            case yaml.ScalarNode():
                word = self.read_word(node, path)
                if word is None or word is WRONG:
                    return word
                return word.value if not texts or isinstance(word.value, bool) else word.text
            case yaml.SequenceNode():
                return [self.read_plain(inner, (*path, i), texts=texts) for i, inner in enumerate(node.value)]
            case yaml.MappingNode():
                entries = self.entries(node, path)
                return {key: self.read_plain(inner, (*path, key), texts=texts) for key, (_, inner) in entries.items()}
        raise TypeError(f"YAML has no such node: {node}")


def _parts_of_condition(plain: Any) -> list[tuple[KeyPath, Any]]:
    if isinstance(plain, list):
        return [((i,), part) for i, part in enumerate(plain)]
    if isinstance(plain, dict) and len(plain) == 1:
        key, inner = next(iter(plain.items()))
        if key == "not":
            return [((key,), inner)]
        if key in ("any", "all") and isinstance(inner, list):
            return [((key, i), part) for i, part in enumerate(inner)]
    return []
