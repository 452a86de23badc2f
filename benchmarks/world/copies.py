"""A node of many more pods, whose logs are those of a few: a large backlog takes no disk, and no time to generate."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.world.account import Account, ContainerAccount
from benchmarks.world.kubernetes_objects import make_uid


@contextmanager
def copies_of(folder: Path, account: Account, count: int) -> Iterator[tuple[Path, Account, dict[str, str]]]:
    """A tree in which each pod of `folder` is there `count` times, with hard links to the files that were written.

    Yields the tree's folder, its account, and by the uid of each pod that of which it is a copy. A pod and its copies
    differ in name and uid alone, also in what a Kubernetes API tells of them. At the end the tree is deleted.
    Once is `folder` itself.
    """
    if count == 1:
        yield folder, account, {container.uid: container.uid for container in account.containers}
        return
    into = folder.with_name(f"{folder.name}-x{count}")
    shutil.rmtree(into, ignore_errors=True)
    originals: dict[str, str] = {}
    containers: list[ContainerAccount] = []
    try:
        for number in range(count):
            for container in account.containers:
                copy = _copy(container, number)
                originals[copy.uid] = container.uid
                containers.append(copy)
                _link(folder / "pods" / _pod_folder(container), into / "pods" / _pod_folder(copy))
        yield into, Account(seed=account.seed, containers=containers), originals
    finally:
        shutil.rmtree(into, ignore_errors=True)


def _copy(container: ContainerAccount, number: int) -> ContainerAccount:
    """Its owner is what its name begins with, up to the last dash."""
    uid = make_uid(container.uid, str(number))
    return msgspec.structs.replace(container, pod=f"{container.pod}c{number}", uid=uid)


def _pod_folder(container: ContainerAccount) -> str:
    return f"{container.namespace}_{container.pod}_{container.uid}"


def _link(pod: Path, copy: Path) -> None:
    for file in pod.rglob("*.log*"):
        link = copy / file.relative_to(pod)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, link)
