"""The Dockerfile and the locks: everything pinned, nothing compiled but the native encoder, nothing missing."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = "libshipper_native.so"


def instructions() -> list[tuple[str, str]]:
    """(word, arguments) of each instruction, comments and line breaks taken out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]


def test_the_last_stage_runs_nothing_and_only_takes_what_was_built() -> None:
    words = [word for word, _ in last_stage()]
    assert "RUN" not in words
    assert ("COPY", "--from=build /opt/shipper /opt/shipper") in last_stage()
    assert words.count("COPY") == 1


def test_all_stages_stand_on_bases_that_a_release_can_pin_by_digest() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert bases == ["${RUST}", "${BASE}", "${BASE}"]
    rust, base = sorted((rest for word, rest in instructions() if word == "ARG"), reverse=True)
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", base)
    assert re.fullmatch(r"RUST=rust:1\.\d+-slim-\w+", rust)


def test_the_native_encoder_is_built_from_its_lock_in_a_stage_of_its_own_and_gets_into_the_wheel() -> None:
    stages = [index for index, (word, _) in enumerate(instructions()) if word == "FROM"]
    native, build = instructions()[: stages[1]], instructions()[stages[1] : stages[2]]
    (cargo,) = [rest for word, rest in native if word == "RUN"]
    assert "cargo build --release --locked" in cargo
    assert not any("cargo" in rest for word, rest in build if word == "RUN")
    copied = build.index(("COPY", f"--from=native /native/target/release/{LIBRARY} shipper/_native.abi3.so"))
    assert copied < next(i for i, (word, rest) in enumerate(build) if word == "RUN" and "pip wheel" in rest)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert "_native.abi3.so" in project["setuptools"]["package-data"]["shipper"]


def test_every_package_is_installed_by_hash_and_never_compiled() -> None:
    installs = [
        part for word, rest in instructions() if word == "RUN" for part in rest.split("&&") if " install " in part
    ]
    assert len(installs) == 3
    for install in installs:
        from_lock = "--require-hashes" in install and "--only-binary=:all:" in install
        assert from_lock or "--no-index wheels/shipper-" in install


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == set(let_through)
    assert [source for source in copied if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-build.lock"])
def test_a_lock_pins_each_package_with_hashes_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.findall(r"^(\S+?)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    requirements = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert packages
    assert len(packages) == len(requirements)
    assert "://" not in text


def test_the_lock_holds_every_dependency_in_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = dict(re.findall(r"^(\S+?)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for requirement in project["dependencies"]:
        name, least = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        version = locked[name.lower().replace("_", "-")]
        assert _numbers(version) >= _numbers(least), f"{name} {version}: run `make lock`"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
