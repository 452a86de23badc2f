"""What a server that is not installed does to a run: nothing on a contributor's machine, a failure in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("ci", "word", "code"), [("", "5 skipped", 0), ("true", "5 errors", 1)])
def test_a_missing_server_skips_a_test_and_fails_it_in_ci(tmp_path: Path, ci: str, word: str, code: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "says_what_it_is"]
    done = subprocess.run(
        [*command, "tests/servers/test_real_servers.py"],
        cwd=ROOT,
        env={**os.environ, "CI": ci, "SHIPPER_SERVERS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert word in done.stdout.splitlines()[-1], done.stdout
    assert "is not installed here: make servers" in done.stdout
    assert done.returncode == code
