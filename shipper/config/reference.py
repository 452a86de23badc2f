"""docs/configuration.md, from the models. `python -m shipper.config.reference` writes it; `make docs` does the same."""

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

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
    fields_of,
)
from shipper.config.show import show_field

PAGE = Path("docs/configuration.md")

_HEAD = """\
<!-- Written by `make docs` from the models in shipper/. Do not edit it. -->
# Configuration

One YAML file. `shipper check CONFIG` reads it, tells every problem at once with its line, and prints what is in force;
`shipper schema` prints a JSON schema for editors. Ready-to-use files are in [config/](../config/).

- **Durations** are written `250ms`, `5s`, `10m`, `1h`, `7d`, **sizes** `64KiB`, `5MiB`, `10MB`; a bare number is
  refused.
- **Environment variables**: `${NAME}` and `${NAME:-default}` in any value, put in before the value is typed
  (`concurrency: ${N}`); the default is taken where the variable is unset or empty; unset without a default is an error.
  `$${` stands for the characters `${`. Between `{` and `}`, put quotes around them.
- **Secrets** are strings, or `{file: /path}`: then the file is read again when the server says 401. They are never
  shown.
- **A list of strings** with one entry may be written as that string.
- **null**, or nothing behind a key, is the same as leaving the key out. `off` and `false` are the same where a key
  takes `off`.
- **Tag patterns** know `*`: any text. **Globs** know `*`, `?`, `[...]`, and, for paths, `**` between slashes.

A key without a default is required if it says so, and otherwise empty.
"""

_TEMPLATES = """\
## Templates

| placeholder | is |
|---|---|
| `{namespace}` `{pod}` `{container}` | of the pod, from its log's path |
| `{node}` | this node |
| `{tag}` | the record's tag; of several, the first that the output matches |
| `{label:NAME}` `{annotation:NAME}` | of the pod, from the API |
| `{field:NAME}` | of the record; `a.b` goes down |
| `{time:%Y.%m.%d}` | the record's own time, in UTC, by strftime's directives |
| `{path}` `{dir}` `{file}` `{stem}` | of the file, for what is not a pod's log |
| `{id}` | of the object (s3 only) |

A missing value is `unknown`. Values are confined to where they stand: no `/` and no `..` in paths and keys, only valid
characters in index names (lower-cased; others become `_`).

## Conditions

A condition (`when`) is a subject and a test. Subjects with a name: `label`, `annotation`, `field` (`a.b` goes down).
Without: `namespace`, `pod`, `container`, `stream`, `tag`, `path`, `message`; there a bare value means `equals`, a list
means `in`, and for another test the value is left empty. Tests: `equals`, `in`, `matches` (a regular expression,
anywhere in the value), `exists`.

```yaml
when: {namespace: kube-system}
when: {label: app, in: [cart, checkout]}
when: {namespace: , matches: "^team-"}
when: [{container: app}, {field: log.level, equals: debug}]      # all of them
when: {any: [{pod: a}, {not: {annotation: keep, exists: true}}]}
```

`field`, `message` and `stream` need the record; all others are decided once per chunk, and cost nothing per record.
"""


def markdown() -> str:
    return "\n".join([_HEAD, *_sections(), _TEMPLATES])


def _sections() -> Iterator[str]:
    for field in fields_of(Config):
        match field.shape:
            case Model() as model:
                yield _section(f"## {field.name}", field.doc, model)
            case ListOf(ByType(_, table)):
                yield f"## {field.name}\n\n{field.doc}\n"
                for name, component in table.items():
                    yield _section(f"### {name}", (component.__doc__ or "").strip(), Model(component))


def _section(title: str, text: str, model: Model) -> str:
    rows = "\n".join(_rows(model, ""))
    return f"{title}\n\n{text}\n\n| key | takes | default | |\n|---|---|---|---|\n{rows}\n"


def _rows(model: Model, prefix: str) -> Iterator[str]:
    """A row for each key, required ones first; keys of a mapping follow with their whole path."""
    for field in sorted(model.fields(), key=lambda field: not field.required):
        inner = _inner_model(field.shape)
        yield f"| `{prefix}{field.name}` | {_takes(field)} | {_default(field)} | {field.doc} |"
        if inner is not None:
            entry = "[]" if isinstance(field.shape, ListOf) else ""
            yield from _rows(inner, f"{prefix}{field.name}{entry}.")


def _inner_model(shape: Shape) -> Model | None:
    match shape:
        case (Model() as model) | ChoiceOr(_, model) | ListOf(Model() as model):
            return model
    return None


def _default(field: Field) -> str:
    if field.required:
        return "**required**"
    if field.default_is_found:
        return "*depends*"
    shown = show_field(field, field.default)
    if shown is None or shown == [] or isinstance(shown, dict):
        return ""  # the keys of a mapping have rows of their own
    if isinstance(shown, list) and len(shown) == 1:
        shown = shown[0]
    written = yaml.safe_dump(shown, default_flow_style=True, width=1000).splitlines()[0]
    return f"`{written}`"


def _takes(field: Field) -> str:
    return takes(field.shape) + (" or `off`" if field.off else "")


def takes(shape: Shape) -> str:
    match shape:
        case Scalar("names"):
            return "true, false, list of names and globs"
        case Scalar("count"):
            return "number"
        case Scalar("any"):
            return "anything"
        case Scalar(kind):
            return kind.removeprefix("positive ")
        case SecretText():
            return "secret"
        case TemplateText():
            return "template"
        case When():
            return "condition"
        case Choice(words):
            return ", ".join(f"`{word}`" for word in words)
        case ChoiceOr(choice, _):
            return f"{takes(choice)} or a mapping"
        case ListOf(item):
            return f"list of {takes(item)}s"
        case MapOf(value):
            return f"mapping to {takes(value)}"
    return "mapping"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(markdown(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
