"""The scalar types that a configuration is made of: durations, sizes, secrets.

A model says `Annotated[Duration, Doc("...")]`; the loader (shipper.config.loader) knows each of these types, turns YAML
scalars into them, and the reference page in docs/ is printed from the same annotations.
"""

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, NamedTuple


class Doc(NamedTuple):
    """The sentence that the configuration's reference says of a key."""

    text: str


class Kind(NamedTuple):
    """Marks a plain type that is written differently in YAML."""

    name: str


class Placeholders(NamedTuple):
    """The placeholders that a template knows at this key; `required` must be in it."""

    names: tuple[str, ...]
    required: str = ""


class Flaw(NamedTuple):
    """What a model says of itself in `flaws()`: the key it is about, and a sentence for a person."""

    path: tuple[str | int, ...]
    sentence: str


Duration = Annotated[float, Kind("duration")]  # seconds; in YAML 250ms, 5s, 10m, 1h, 7d
Size = Annotated[int, Kind("size")]  # bytes; in YAML 64KiB, 5MiB, 10MB
PositiveDuration = Annotated[float, Kind("positive duration")]
PositiveSize = Annotated[int, Kind("positive size")]
Count = Annotated[int, Kind("count")]  # at least 1
Name = Annotated[str, Kind("name")]  # of a component: names a folder too
FilePath = Annotated[str, Kind("file")]  # must be there when the configuration is read
Url = Annotated[str, Kind("url")]  # http:// or https://, without credentials
Address = Annotated[str, Kind("address")]  # host:port to listen on
Glob = Annotated[str, Kind("glob")]  # of names or paths
TagPattern = Annotated[str, Kind("tag pattern")]  # `*` is any text
Names = Annotated[tuple[str, ...], Kind("names")]  # globs; in YAML also true for all ("*") and false for none

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s?(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)")
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse_duration(text: str) -> float:
    """`250ms` -> 0.25. Raises ValueError with a sentence that says how to write it."""
    if match := _DURATION.fullmatch(text.strip()):
        return float(Decimal(match[1]) * _SECONDS[match[2]])
    hint = f'; did you mean "{text.strip()}s"?' if re.fullmatch(r"\d+(\.\d+)?", text.strip()) else ""
    raise ValueError(f'"{text}" is no duration: write a number and a unit, as 250ms, 5s, 10m, 1h or 7d{hint}')


def parse_size(text: str) -> int:
    """`64KiB` -> 65536. Raises ValueError with a sentence that says how to write it."""
    if match := _SIZE.fullmatch(text.strip()):
        return int(Decimal(match[1]) * _BYTES[match[2]])
    hint = f'; did you mean "{text.strip()}B"?' if re.fullmatch(r"\d+", text.strip()) else ""
    raise ValueError(f'"{text}" is no size: write a number and a unit, as 64KiB, 5MiB, 10MB or 1GiB{hint}')


def show_duration(seconds: float) -> str:
    exact = Decimal(str(seconds))
    whole = [unit for unit, size in _SECONDS.items() if size <= exact < size * 10**12 and exact % size == 0]
    unit = whole[-1] if whole else "s" if exact >= 1 else "ms"
    return f"{(exact / _SECONDS[unit]).normalize():f}{unit}"


def show_size(count: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count >= _BYTES[unit] and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"


class Secret:
    """A value that never shows itself. From a file, it can be read again (`reload`), as after a 401."""

    __slots__ = ("_path", "_value")

    def __init__(self, value: str | None = None, *, file: str | None = None) -> None:
        self._path = file
        self._value = value if file is None else _read_secret(file)

    @property
    def file(self) -> str | None:
        return self._path

    def get(self) -> str:
        return self._value or ""

    def reload(self) -> bool:
        """Reads the file again; True when the value has changed. Raises OSError when the file has gone."""
        if self._path is None:
            return False
        before, self._value = self._value, _read_secret(self._path)
        return self._value != before

    def __repr__(self) -> str:
        return f"<secret from {self._path}>" if self._path else "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (other._path, other._value) == (self._path, self._value)

    def __hash__(self) -> int:
        return hash((self._path, self._value))


def _read_secret(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip()
