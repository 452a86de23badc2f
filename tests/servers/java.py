"""Finds a JDK of the right version among those that are installed."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

JVM_FOLDERS = (Path("/usr/lib/jvm"), Path("/Library/Java/JavaVirtualMachines"))


class NotInstalledError(Exception):
    """Something that the tests' servers need is not on this machine; the message says what."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Major versions of Java, both ends included."""

    at_least: int
    at_most: int = 99

    def __str__(self) -> str:
        return f"{self.at_least} or newer" if self.at_most == 99 else f"{self.at_least} to {self.at_most}"


def _major_version(home: Path) -> int:
    """From the `release` file that every JDK has; 0 where this is no JDK."""
    try:
        found = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) if found and (home / "bin/javac").exists() else 0


def find_jdk(wanted: Versions) -> Path:
    """The home of the oldest JDK that fits; NotInstalledError when there is none."""
    homes = [Path(os.environ["JAVA_HOME"])] if "JAVA_HOME" in os.environ else []
    for folder in JVM_FOLDERS:
        homes += [*folder.glob("*"), *folder.glob("*/Contents/Home")]
    fitting = [
        (version, home) for home in homes if wanted.at_least <= (version := _major_version(home)) <= wanted.at_most
    ]
    if not fitting:
        raise NotInstalledError(f"no JDK {wanted} in {JVM_FOLDERS[0]} or JAVA_HOME")
    return min(fitting)[1]
