"""Configuration of the tail input."""

from typing import Annotated, ClassVar, Literal

import msgspec

from shipper.template import Template
from shipper.values import Doc, Glob, Name, Placeholders, PositiveDuration, PositiveSize

TagTemplate = Annotated[
    Template, Placeholders(("namespace", "pod", "container", "path", "dir", "file", "stem", "node"))
]


class NamespacesConfig(msgspec.Struct, frozen=True, kw_only=True):
    include: Annotated[tuple[Glob, ...], Doc("Globs; only these are read. Empty: all.")] = ()
    exclude: Annotated[tuple[Glob, ...], Doc("Globs; these are not read, whatever `include` says.")] = ()


class TailConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Follows log files through rotation, compression, restart and deletion."""

    kind: ClassVar[str] = "tail"
    name: Annotated[Name, Doc("Unique among inputs. Default: the type.")] = "tail"
    path: Annotated[
        tuple[Glob, ...],
        Doc("Globs of files, `**` allowed; rotated names and their `.gz` are found by themselves."),
    ]
    exclude: Annotated[tuple[Glob, ...], Doc("Globs of files, looked at before a file is opened.")] = ()
    namespaces: Annotated[
        NamespacesConfig, Doc("Which pods to read, by namespace; shipper's own pod is always left out, counted.")
    ] = NamespacesConfig()
    follow: Annotated[
        tuple[str, ...],
        Doc("Other real folders that symlinks may lead into (with docker: `/var/lib/docker/containers`)."),
    ] = ()
    tag: Annotated[
        TagTemplate, Doc("The first tag of its records. `{path} {dir} {file} {stem}` for files that are not a pod's.")
    ] = Template.parse("kube.{namespace}.{pod}.{container}")
    format: Annotated[
        Literal["auto", "cri", "docker", "json", "text"],
        Doc("How files frame records; `auto` decides per file, by its first complete line."),
    ] = "auto"
    read_from: Annotated[
        Literal["head", "end"],
        Doc("Where a file that is there at the very first start is begun; later files always at the head."),
    ] = "head"
    max_record_bytes: Annotated[PositiveSize, Doc("A longer record is cut there, marked, and counted.")] = 2**20
    rescan: Annotated[
        PositiveDuration, Doc("How often the folders are looked through, to repair what a lost file event hides.")
    ] = 10.0
