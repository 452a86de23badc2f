"""What it takes that a file or a folder is still there when the power has failed. All of it blocks."""

import contextlib
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Forces a file's bytes, or the names in a folder, to the disk. A file's own name is its folder's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """With its parents, each durable in its own parent; also one that an earlier process had made when it was killed,
    before it could see to that. `mode` is the folder's own.
    """
    if folder.exists():
        with contextlib.suppress(PermissionError):  # whoever may not look into the parent has made nothing there
            sync(folder.parent)
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync(folder.parent)
