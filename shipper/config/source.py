"""YAML text to nodes that know their line and column, and scalars with the environment put in.

Only the shape of a document is PyYAML's: what a plain scalar means is decided here, by YAML 1.2's rules, so that a
version `1.10`, a time `22:22` or a label `no` is not turned into something else before its key says what it takes.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import yaml

from shipper.errors import ConfigError, Problem

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]{1,17}\.[0-9]{1,17}([eE][-+][0-9]{1,2})?")
_NULL = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}


class _Loader(yaml.SafeLoader):
    """Resolves nothing: every plain scalar stays text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own class attribute


class Word(NamedTuple):
    """A scalar. `value` is what its text means where any type may stand; None is null: as if the key were not there."""

    text: str
    value: bool | float | str | None
    substituted: bool = False


def compose(text: str, file: str) -> yaml.Node | None:
    """The root node, None of an empty document. Raises ConfigError with the one place where YAML's syntax breaks."""
    try:
        return yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        sentence = str(exc.problem or exc.context)
        if "\\t" in sentence:
            sentence += "; indent with spaces"
        if "got '{'" in sentence:
            sentence += '; between { and }, put quotes around "${NAME}"'
    except yaml.reader.ReaderError as exc:
        before = text[: exc.position]
        line, column = before.count("\n") + 1, exc.position - before.rfind("\n")
        sentence = f"the character U+{exc.character:04X} is not allowed"
    except (ValueError, OverflowError):  # PyYAML hands an escape's number to chr(), and does not say where it stands
        line, column, sentence = 1, 1, "an escape in quotes (\\U...) is no character"
    except RecursionError:
        line, column, sentence = 1, 1, "it is nested too deeply"
    raise ConfigError([Problem(file, line, column, "", f"this is no YAML: {sentence}")])


def read_word(node: yaml.ScalarNode, environ: Mapping[str, str]) -> Word:
    """Raises ValueError with a sentence when a variable is not set, or a reference is malformed."""
    text = substitute(node.value, environ)
    substituted = text != node.value
    if node.style is not None and not substituted:
        return Word(text, text)
    if substituted and text:
        return Word(text, text if text in _NULL else resolve(text), substituted=True)
    return Word(text, resolve(text), substituted)


def substitute(text: str, environ: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if match[0] == "$${":
            return "${"
        if name is None:
            raise ValueError(
                "holds a ${ that is no ${NAME} or ${NAME:-default}; write $${ for the characters themselves"
            )
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise ValueError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        return value

    return _REFERENCE.sub(replace, text)


def escape(text: str) -> str:
    """The reverse of `substitute`."""
    return text.replace("${", "$${")


def resolve(text: str) -> bool | float | str | None:
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
