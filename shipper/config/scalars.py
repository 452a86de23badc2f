"""One scalar to what its key takes. Each function raises ValueError with a sentence that says what to write instead."""

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from shipper.config.source import Word
from shipper.config.wording import alternatives
from shipper.template import Template
from shipper.values import Secret, parse_duration, parse_size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ADDRESS = re.compile(r"(.*):([0-9]{1,5})", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9._-]*")
_LONGEST_S = 3650 * 86400.0
_LARGEST_BYTES = 2**50
_TRUE, _FALSE = ("yes", "on"), ("no", "off")


def is_off(word: Word) -> bool:
    return word.value is False or word.value in _FALSE


def read_string(word: Word) -> str:
    if not isinstance(word.value, str) and not word.substituted:
        raise ValueError(f'takes a string: write it in quotes, "{word.text}"')
    if "\0" in word.text:
        raise ValueError("holds a NUL character")
    return word.text


def read_boolean(word: Word) -> bool:
    if isinstance(word.value, bool):
        return word.value
    if word.value in _TRUE or word.value in _FALSE:
        return word.value in _TRUE
    raise ValueError(f"takes true or false, not {_quoted(word)}")


def read_integer(word: Word) -> int:
    if not isinstance(word.value, int) or isinstance(word.value, bool):
        raise ValueError(f"takes a whole number, not {_quoted(word)}")  # noqa: TRY004 - of a text, as all here
    return word.value


def read_count(word: Word) -> int:
    if (count := read_integer(word)) < 1:
        raise ValueError(f"takes a whole number of at least 1, not {count}")
    return count


def read_duration(word: Word) -> float:
    seconds = parse_duration(word.text)
    if seconds > _LONGEST_S:
        raise ValueError(f'"{word.text}" is longer than ten years')
    return seconds


def read_positive_duration(word: Word) -> float:
    if not (seconds := read_duration(word)):
        raise ValueError(f'must be more than "{word.text}"')
    return seconds


def read_positive_size(word: Word) -> int:
    if not (size := read_size(word)):
        raise ValueError(f'must be more than "{word.text}"')
    return size


def read_size(word: Word) -> int:
    try:
        size = parse_size(word.text)
    except OverflowError:
        size = _LARGEST_BYTES + 1
    if size > _LARGEST_BYTES:
        raise ValueError(f'"{word.text}" is more than 1024TiB')
    return size


def read_choice(word: Word, words: tuple[str, ...], or_else: str = "") -> str:
    text = "off" if "off" in words and is_off(word) else word.text
    if text not in words:
        raise ValueError(f"takes {alternatives((*words, or_else) if or_else else words)}, not {_quoted(word)}")
    return text


def read_names(word: Word) -> tuple[str, ...]:
    if isinstance(word.value, bool):
        return ("*",) if word.value else ()
    return (read_glob(word),)


def read_template(word: Word, placeholders: tuple[str, ...], required: str) -> Template:
    text = read_string(word)
    if not text:
        raise ValueError("is empty")
    template = Template.parse(text, allowed=placeholders)
    if required and required not in template.placeholders:
        raise ValueError(f"must hold {{{required}}}")
    return template


def read_name(word: Word) -> str:
    name = word.text
    if not _NAME.fullmatch(name):
        raise ValueError(f"{_quoted(word)} is no name: letters, digits, . _ and -, at most 63, a letter or digit first")
    return name


def read_file_path(word: Word) -> str:
    path = read_string(word)
    if not path:
        raise ValueError("takes the path of a file")
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
    return path


def read_url(word: Word) -> str:
    url = read_string(word)
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    else:
        if "@" in url:  # before anything that would show it
            raise ValueError("a URL carries no user and password here; there are keys for them")
    if not valid or re.search(r"[\s\x00-\x1f]", url):
        shown = "this" if "@" in url else f'"{url}"'
        raise ValueError(f"{shown} is no URL: write http:// or https://, host and port, as https://host:9200")
    if parts.query or parts.fragment:
        raise ValueError(f'"{url}" has a ? or # part, which does not belong here')
    return url.rstrip("/")


def read_address(word: Word) -> str:
    """`host:port`; an IPv6 host without brackets, as from `${POD_IP}:2020`, is given them."""
    match = _ADDRESS.fullmatch(word.text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{_quoted(word)} is no address to listen on: write host:port, as 127.0.0.1:2020")
    host = match[1].removeprefix("[").removesuffix("]")
    if ":" in host:
        try:
            host = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError as exc:
            raise ValueError(f"{_quoted(word)}: {exc}") from exc
    elif not _HOST.fullmatch(host):
        raise ValueError(f"{_quoted(word)}: {host} is no host")
    return f"{host}:{match[2]}"


def read_glob(word: Word) -> str:
    glob = read_string(word)
    if not glob:
        raise ValueError("a glob cannot be empty")
    if any("**" in part and part != "**" for part in glob.split("/")):
        raise ValueError(f'"{glob}": ** stands alone between slashes, as in /var/log/**/*.log')
    if _has_open_bracket(glob):
        raise ValueError(f'"{glob}" has a [ without its ]')
    if "{" in glob:
        raise ValueError(f'"{glob}": globs know *, ?, [...] and **; write a list instead of {{a,b}}')
    return glob


def read_tag_pattern(word: Word) -> str:
    pattern = read_string(word)
    if not pattern:
        raise ValueError('a tag pattern cannot be empty; "*" is any tag')
    if "{" in pattern:
        raise ValueError(f'"{pattern}": placeholders belong to tags; in a pattern, * is any text')
    return pattern


def read_secret(word: Word) -> Secret:
    """Never says what it was given."""
    if not isinstance(word.value, str) and not word.substituted:
        raise ValueError("takes a string: write it in quotes")
    if re.search(r"[\x00-\x1f\x7f]", word.text):
        raise ValueError("holds a control character, or a line break")
    return Secret(word.text)


def read_secret_file(path: str) -> Secret:
    try:
        secret = Secret(file=path)
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise ValueError(f"{path} holds no text") from None
    if not secret.get():
        raise ValueError(f"{path} is empty")
    return secret


def _has_open_bracket(glob: str) -> bool:
    """As fnmatch sees it: a ] right behind [ or [! is one of the characters."""
    start = glob.find("[")
    while start >= 0:
        first = start + (3 if glob[start + 1 : start + 3] == "!]" else 2)
        end = glob.find("]", first)
        if end < 0:
            return True
        start = glob.find("[", end)
    return False


def _quoted(word: Word) -> str:
    return f'"{word.text}"' if isinstance(word.value, str) else word.text


READERS = {
    "string": read_string,
    "boolean": read_boolean,
    "integer": read_integer,
    "count": read_count,
    "duration": read_duration,
    "positive duration": read_positive_duration,
    "size": read_size,
    "positive size": read_positive_size,
    "name": read_name,
    "file": read_file_path,
    "url": read_url,
    "address": read_address,
    "glob": read_glob,
    "tag pattern": read_tag_pattern,
}
