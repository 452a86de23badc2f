"""What a path tells: whose log it is, and whether a rotation made it.

Layout of the kubelet (pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory):
`<root>/<namespace>_<pod>_<uid>/<container>/<restart count>.log`, rotated `<restart count>.log.20261121-010203[.gz]`.
"""

import re
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from shipper.record import Source

_POD = re.compile(r"([a-z0-9.\-]+)_([a-z0-9.\-]+)_([A-Za-z0-9.\-]+)")
_RESTART = re.compile(r"(\d+)\.log")
_KUBELET_SUFFIX = re.compile(r"(.+\.log)\.(\d{8}-\d{6})(\.gz)?")
_LOCAL_SUFFIX = re.compile(r"(.+?)[.\-](\d[\dT:.\-]*)(\.gz)?", re.DOTALL)
_LEFTOVER = re.compile(r".*\.(tmp|swp|part)|.*~", re.DOTALL)


class Name(NamedTuple):
    """A file's name, taken apart. `order`: later files of one live name compare greater; the live file is last."""

    live: str
    is_live: bool
    is_gzip: bool
    order: tuple[int, int, str]


def pod_source(input_name: str, path: str) -> Source:
    """Of a live path; without identity where the path is not a pod's."""
    parts = path.rsplit("/", 3)
    if len(parts) == 4:
        pod, container, file = _POD.fullmatch(parts[1]), intern(parts[2]), _RESTART.fullmatch(parts[3])
        if pod and file:
            return Source(input_name, path, intern(pod[1]), pod[2], intern(pod[3]), container, int(file[1]))
    return Source(input_name, path)


def is_container(path: str) -> bool:
    """Whether `pod_source` knows a live path's container."""
    folder, _, file = path.rpartition("/")
    return _RESTART.fullmatch(file) is not None and pod_of(folder.rpartition("/")[0]) is not None


def pod_of(folder: str) -> tuple[str, str] | None:
    """(namespace, pod) of a pod's folder, by its path or name; None where it is none."""
    match = _POD.fullmatch(folder.rpartition("/")[2])
    return (match[1], match[2]) if match else None


@lru_cache(maxsize=1024)  # a scan of thousands of containers meets few names
def _name_of_container_log(file: str) -> Name | None:
    """What the kubelet calls so needs no look at what stands beside it."""
    if match := _KUBELET_SUFFIX.fullmatch(file):
        return Name(match[1], False, bool(match[3]), (0, 0, match[2]))
    return Name(file, True, False, (1, 0, "")) if _RESTART.fullmatch(file) else None


def name_of(file: str, *, known: frozenset[str] | set[str] = frozenset()) -> Name | None:
    """Takes a file's name apart; None for what a rotation left half done.

    A name counts as rotated when its suffix looks so. `known`: names that the input's globs took for live; of these,
    one whose stem is neither among them nor ends in `.log` is live itself (an `app.2` may just be called so).
    """
    if (name := _name_of_container_log(file)) is not None:
        return name
    if _LEFTOVER.fullmatch(file):
        return None
    match = _LOCAL_SUFFIX.fullmatch(file)
    if match and (match[1] in known or file not in known or match[1].endswith(".log")):
        suffix = match[2]
        if len(suffix) < 5 and suffix.isdigit():  # app.log.1 is younger than app.log.2
            return Name(match[1], False, bool(match[3]), (0, -int(suffix), ""))
        return Name(match[1], False, bool(match[3]), (0, 0, suffix))
    if file.endswith(".gz"):
        return Name(file.removesuffix(".gz"), False, True, (0, 0, ""))
    return Name(file, True, False, (1, 0, ""))


def folder_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"
