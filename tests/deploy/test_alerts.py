"""deploy/alerts.yaml: tested by Prometheus' own tool, and held to the metrics that exist and to the handbook."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shipper.metrics import GAUGES, Metrics

ROOT = Path(__file__).parents[2]
RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())["groups"][0]["rules"]
NOT_OURS = {"up"}


def _declared_metrics() -> set[str]:
    counters = {f"{family.name}_total" for family in Metrics().registry.collect() if family.type == "counter"}
    return counters | set(GAUGES) | NOT_OURS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
class TestEveryAlert:
    def test_reads_only_metrics_that_exist(self, rule: dict[str, Any]) -> None:
        named = set(re.findall(r"\b(?:shipper_\w+|up)\b", rule["expr"]))
        assert named
        assert named <= _declared_metrics()

    def test_says_what_is_wrong_and_what_to_do(self, rule: dict[str, Any]) -> None:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 80

    def test_has_its_section_in_the_handbook(self, rule: dict[str, Any]) -> None:
        handbook = (ROOT / "docs/operations.md").read_text()
        (section,) = re.findall(rf"^### {rule['alert']}\n(.*)", handbook, re.MULTILINE)
        assert section.startswith("Critical.") == (rule["labels"]["severity"] == "critical")

    def test_fires_in_a_rule_test(self, rule: dict[str, Any]) -> None:
        assert f'alertname="{rule["alert"]}"' in (ROOT / "deploy/alerts_test.yaml").read_text()


def test_alerts_fire_and_stay_quiet_as_written(prometheus_tools: Path) -> None:
    command = [str(prometheus_tools), "test", "rules", "alerts_test.yaml"]
    done = subprocess.run(command, cwd=ROOT / "deploy", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
