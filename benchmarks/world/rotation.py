"""What a kubelet does to one container's log files on rotation: decided here, done by `Kubelet`.

The order is that of `rotateLog` in pkg/kubelet/logs/container_log_manager.go (Kubernetes 1.36). Steps are primitive, so
that a kubelet can die between any two of them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Action = Literal["delete", "compress", "rename-compressed", "remove-plain", "rename-live", "reopen"]


@dataclass(frozen=True, slots=True)
class Step:
    """`compress` and the renames go from `path` to `target`; the others have no target."""

    action: Action
    path: Path
    target: Path | None = None


def plan_rotation(live: Path, rotated: Collection[str], *, suffix: str, max_files: int) -> list[Step]:
    """The steps of one rotation of `live`, in order.

    `rotated`: the names beside it that begin with its own and a dot. `suffix`: the time, as the kubelet writes it.
    `max_files`: containerLogMaxFiles; it counts the live file and the one that it is about to become.
    """
    unused = [name for name in rotated if _is_unused(name, rotated)]
    used = sorted(set(rotated) - set(unused))
    excess = used[: max(0, len(used) - max(0, max_files - 2))]
    steps = [Step("delete", live.with_name(name)) for name in [*sorted(unused), *excess]]
    for name in used[len(excess) :]:
        if not name.endswith(".gz"):
            steps += _plan_compression(live.with_name(name))
    return [*steps, Step("rename-live", live, live.with_name(f"{live.name}.{suffix}")), Step("reopen", live)]


def _is_unused(name: str, rotated: Collection[str]) -> bool:
    """Left behind by a kubelet that died: a temporary file, or a plain one whose compressed form is complete."""
    return name.endswith(".tmp") or f"{name}.gz" in rotated


def _plan_compression(plain: Path) -> list[Step]:
    temporary = plain.with_name(f"{plain.name}.tmp")
    return [
        Step("compress", plain, temporary),
        Step("rename-compressed", temporary, plain.with_name(f"{plain.name}.gz")),
        Step("remove-plain", plain),
    ]
