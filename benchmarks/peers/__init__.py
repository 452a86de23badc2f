"""Other shippers, each with the best configuration that we know of: run where they are found on PATH.

A configuration is a file of this folder; words like @PODS@ and @PORT@ stand for what a run needs. A peer is held to the
number of its documents only: records, or lines where it joins no partial ones. Each file says whether it was ever run.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.subjects import Job, Mode
from benchmarks.world.account import Account
from benchmarks.world.kubernetes_objects import make_status

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """`file`: its configuration here; `arguments`: of its command, @CONFIG@ stands for the path of that."""

    name: str
    file: str
    arguments: tuple[str, ...]
    joins: bool  # partial lines become one record
    newlines: int = 2  # of a request's body, for each document
    is_packed: bool = False
    needs_api: bool = False  # of Kubernetes
    api: str = ""
    mode: Mode = "plain"
    ends: bool = False
    has_archive: bool = False
    environment: ClassVar[Mapping[str, str]] = {}

    def command(self, job: Job) -> list[str]:
        state, config, links = job.folder / "state", job.folder / self.file, job.folder / "containers"
        state.mkdir()
        _link_containers(job.pods, links)
        places = {"@PODS@": job.pods, "@PORT@": job.port, "@STATE@": state, "@API@": self.api, "@CONTAINERS@": links}
        config.write_text(_fill((_HERE / self.file).read_text(encoding="utf-8"), places), encoding="utf-8")
        command = ("env", f"KUBECONFIG={config}", self.name, *self.arguments)  # `env` becomes what it starts
        return [_fill(argument, {**places, "@CONFIG@": config}) for argument in command]

    def documents(self, account: Account) -> int:
        return account.records if self.joins else sum(container.lines for container in account.containers)


def _fill(text: str, places: Mapping[str, object]) -> str:
    for name, value in places.items():
        text = text.replace(name, str(value))
    return text


def _link_containers(pods: Path, links: Path) -> None:
    """/var/log/containers, as kubelet makes it: a link to the newest log of each container, named with its id."""
    links.mkdir()
    for log in pods.glob("*/*/0.log"):
        namespace, pod, _ = log.parent.parent.name.split("_")
        number = make_status(log.parent.name)["containerID"].partition("://")[2]
        (links / f"{pod}_{namespace}_{log.parent.name}-{number}.log").symlink_to(log.absolute())


_ALL = (
    Peer("fluent-bit", "fluent-bit.yaml", ("-c", "@CONFIG@"), joins=True),
    Peer("vector", "vector.yaml", ("--config", "@CONFIG@"), joins=True),
    Peer("otelcol-contrib", "otelcol.yaml", ("--config", "@CONFIG@"), joins=True),
    Peer(
        "filebeat",
        "filebeat.yml",
        ("run", "-c", "@CONFIG@", "--path.data", "@STATE@", "--strict.perms=false"),
        joins=True,
    ),
    Peer(
        "vlagent",
        "vlagent.yaml",
        (
            "-loggerLevel=ERROR",
            *("-kubernetesCollector", "-kubernetesCollector.logsPath=@CONTAINERS@", "-tmpDataPath=@STATE@"),
            *("-remoteWrite.url=http://127.0.0.1:@PORT@/insert/jsonline", "-remoteWrite.format=jsonline"),
            "-httpListenAddr=127.0.0.1:0",
        ),
        joins=True,
        newlines=1,
        is_packed=True,
        needs_api=True,
    ),
    Peer("rsyslogd", "rsyslog.conf", ("-n", "-f", "@CONFIG@", "-i", "@STATE@/pid"), joins=False, newlines=3),
    Peer(
        "syslog-ng",
        "syslog-ng.conf",
        (
            *("-F", "--no-caps", "-f", "@CONFIG@", "-R", "@STATE@/persist"),
            *("-p", "@STATE@/pid", "-c", "@STATE@/control"),
        ),
        joins=False,
    ),
)
PEERS = {peer.name: peer for peer in _ALL}


def find_peers() -> dict[str, bool]:
    """Which of them are on PATH."""
    return {name: shutil.which(name) is not None for name in PEERS}


def make_peer(name: str, api: str) -> Peer:
    """`api`: URL of the Kubernetes API, or `off`."""
    return dataclasses.replace(PEERS[name], api=api)
