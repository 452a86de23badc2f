"""Which twin of the hot path runs: the native one (`native/`, Rust) where it was built, else Python.

`SHIPPER_NATIVE=0` in the environment forces Python. Both give the same bytes; the native one is some eight times as
fast, and leaves the interpreter free meanwhile.
"""

import os
from types import ModuleType

_API = 6  # of native/src/python.rs


def _load() -> tuple[ModuleType | None, str]:
    """-> the module, or why there is none."""
    if os.environ.get("SHIPPER_NATIVE") == "0":
        return None, "SHIPPER_NATIVE is 0"
    try:
        from shipper import _native
    except ImportError as exc:
        return None, f"it was not built, since cargo was missing, or is not for this Python: {exc}"
    if _native.API != _API:
        return None, "it was built from other sources: install shipper again"
    return _native, ""


MODULE, WHY_NOT = _load()


def count_lines(data: bytes) -> int:
    """By their newlines. (`replace` goes from one to the next, which takes a third of the time of `count`.)"""
    return MODULE.count_lines(data) if MODULE is not None else len(data) - len(data.replace(b"\n", b""))


def mark_of(head: bytes) -> int:
    """A hash of a file's first bytes, which only this process knows."""
    return MODULE.mark_of(head) if MODULE is not None else hash(head)


def name() -> str:
    return "Python" if MODULE is None else "native"
