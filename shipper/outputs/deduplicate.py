"""A JSON object with the same key twice is valid, but Elasticsearch refuses it: of two equal keys the last one wins.

Looking for them in every record costs too much, so this is for a document that was refused for it. Values keep their
bytes: no number is read and written again.
"""

import msgspec

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


def without_equal_keys(document: bytes, lines: int) -> bytes:
    """`document` ends with a newline; with two `lines`, the first is a bulk's action."""
    action, newline, source = (
        document.rstrip(b"\n").rpartition(b"\n") if lines > 1 else (b"", b"", document.rstrip(b"\n"))
    )
    try:
        return action + newline + _merge(source) + b"\n"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return document


def _merge(value: bytes) -> bytes:
    kind = value.lstrip()[:1]
    if kind == b"{":
        members = (msgspec.json.encode(key) + b":" + _merge(bytes(raw)) for key, raw in _object.decode(value).items())
        return b"{" + b",".join(members) + b"}"
    if kind == b"[":
        return b"[" + b",".join(_merge(bytes(raw)) for raw in _array.decode(value)) + b"]"
    return value
