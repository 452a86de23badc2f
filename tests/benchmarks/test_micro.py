"""The small benchmarks run, and print a figure for each of their measures."""

import importlib
import pkgutil
import re
import sys

import pytest

from benchmarks import micro

SCRIPTS = sorted(module.name for module in pkgutil.iter_modules(micro.__path__) if module.name != "stage")


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_prints_what_its_stage_costs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--files", "20"] if name == "discover_files" else []
    monkeypatch.setattr(sys, "argv", [name, "--seconds", "0.01", *few])
    importlib.import_module(f"benchmarks.micro.{name}").main()
    lines = capsys.readouterr().out.splitlines()
    assert lines
    for line in lines:
        figure = re.search(r" +([0-9.]+) (us/|MB/s)", line)
        assert figure, line
        assert float(figure[1]) > 0


def test_each_stage_of_the_hot_path_has_one() -> None:
    assert len(SCRIPTS) == 10
