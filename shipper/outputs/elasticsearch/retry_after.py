"""The header with which a server says when to come again: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after"""

import datetime as dt
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LIMIT_S = 3600.0  # a mistaken proxy must not stop a node's logs for a day


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now; None when the header is not there or says nothing. Never negative."""
    lower = {name.lower(): value for name, value in headers.items()}
    wish = lower.get("retry-after", "").strip()
    if wish.isascii() and wish.isdigit():
        return min(float(wish), LIMIT_S)
    then = _parse_date(wish)
    if then is None:
        return None
    now = _parse_date(lower.get("date", "")) or dt.datetime.now(dt.UTC)  # the server's own clock, where it tells it
    return min(max((then - now).total_seconds(), 0.0), LIMIT_S)


def _parse_date(text: str) -> dt.datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)
