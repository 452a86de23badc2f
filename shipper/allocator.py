"""The C library's allocator, told what this process is like: few threads, large buffers, and one event loop."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_KEPT_BYTES = 8 << 20  # freed, but not given back: what a round reads and what Python makes of it
_LARGE_BYTES = 2 << 20  # has pages of its own: only what grows to a request body


def settle_allocator() -> None:
    """One arena for all threads: each would keep free pages of its own, 2 MiB of a live daemon. Call it before threads.

    Python holds its lock around nearly every allocation, so none waits for another. And a chunk's memory is used again
    for the next: fresh pages for each cost a tenth of all time. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
