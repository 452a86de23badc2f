"""Names of objects: time-ordered and unique ids, and keys that S3 takes."""

import datetime as dt
import secrets

from shipper.template import Template

MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


def new_id(now: float) -> str:
    """`20261121T100000123456Z-5f0e8c1ab27d` for `now` in epoch seconds: sorts by time, and is no other's."""
    time = dt.datetime.fromtimestamp(now, dt.UTC)
    return f"{time:%Y%m%dT%H%M%S}{time.microsecond:06d}Z-{secrets.token_hex(6)}"


def fixed_folder(template: Template) -> str:
    """What all keys begin with: the template up to the last `/` before its first placeholder."""
    first = template.parts[0] if template.parts else ""
    return first[: first.rfind("/") + 1] if isinstance(first, str) else ""


def fill_key(target: str, object_id: str) -> str:
    """The rendered key with its `{id}`. One that is too long for S3 loses the end of what stands before the id."""
    before, mark, after = _valid(target).partition("{id}")
    end = (mark + after).replace("{id}", object_id).encode()
    kept = before.encode()[: max(MAX_KEY_BYTES - len(end), 0)]
    return (kept + end)[:MAX_KEY_BYTES].decode(errors="ignore")


def _valid(text: str) -> str:
    """JSON may hold lone surrogates, which no UTF-8 has."""
    return text.encode(errors="replace").decode()
