"""The words that messages share."""

import difflib
from collections.abc import Iterable

from shipper.config.shapes import (
    ByType,
    Choice,
    ChoiceOr,
    ListOf,
    Model,
    Scalar,
    SecretText,
    Shape,
    TemplateText,
    When,
)


def suggest(word: str, choices: Iterable[str]) -> str:
    """The end of a sentence about a word that does not exist."""
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {close[0]}?" if close else "there are " + ", ".join(choices)


def alternatives(words: tuple[str, ...]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


_DESCRIPTIONS = {
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
    "count": "a whole number",
    "duration": "a duration such as 5s",
    "positive duration": "a duration such as 5s",
    "size": "a size such as 5MiB",
    "positive size": "a size such as 5MiB",
    "names": "true, false, or a list of names and globs",
    "name": "a name",
    "file": "the path of a file",
    "url": "a URL",
    "address": "host:port",
    "glob": "a glob",
    "tag pattern": "a tag pattern",
}


def describe(shape: Shape) -> str:
    """What the shape takes, with its article."""
    match shape:
        case Scalar(kind):
            return _DESCRIPTIONS[kind]
        case SecretText():
            return "a string, or {file: /path}"
        case TemplateText():
            return "a template"
        case Choice(words):
            return alternatives(words)
        case ChoiceOr(Choice(words), _):
            return alternatives((*words, "a mapping"))
        case ListOf(Model() | ByType()):
            return "a list: begin each entry with -"
        case ListOf(item):
            return f"{describe(item)}, or a list of such"
        case When():
            return "a condition such as {namespace: kube-system}, or a list of them"
    return "a mapping"
