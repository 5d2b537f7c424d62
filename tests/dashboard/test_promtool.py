"""What Prometheus's own tool says of the files in deploy/: they are valid, and alerts are told when they should be."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recserv.dashboard.rules import ALERTS, Alert
from tests.dashboard.alert_cases import CASES, HEALTHY, Case, Series
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

DEPLOY = ROOT / "deploy" / "prometheus"
RULES = DEPLOY / "alerts.yml"
BY_NAME = {alert.name: alert for alert in ALERTS}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    assert tool, "promtool is missing: install Debian's package prometheus (apt-get install prometheus)"
    command = [tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S)


def check_series(folder: Path, series: Series, expectations: list[dict[str, Any]]) -> str:
    """What promtool has to say against it; empty if all is as expected."""
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": expectations,
            }
        ],
    }
    # JSON is YAML.
    path = folder / "test.yml"
    path.write_text(json.dumps(test))
    done = promtool("test", "rules", path)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def silent(alert: Alert, at: str) -> dict[str, Any]:
    """Nothing is."""
    return {"alertname": alert.name, "eval_time": at, "exp_alerts": []}


def test_every_alert_has_its_case() -> None:
    assert [case.alert for case in CASES] == list(BY_NAME)


@pytest.mark.deploy
def test_the_rules_are_valid() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.deploy
def test_the_configuration_is_valid_and_finds_the_rules() -> None:
    done = promtool("check", "config", DEPLOY / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "alerts.yml" in done.stdout


@pytest.mark.deploy
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_is_told_of_what_is_wrong_and_not_before_its_time(case: Case, tmp_path: Path) -> None:
    alert = BY_NAME[case.alert]
    # Its summary has figures in it: read from the complaint about there being one, to be looked at in the lane's log.
    summary = _summary(check_series(tmp_path, case.sick, [silent(alert, case.at)]))
    print(f"{alert.name} ({alert.severity}): {summary}")
    full = {
        "exp_labels": {"severity": alert.severity, **case.labels},
        "exp_annotations": {"summary": summary, "action": alert.action},
    }
    expected = {"alertname": alert.name, "eval_time": case.at, "exp_alerts": [full]}
    assert check_series(tmp_path, case.sick, [expected, silent(alert, "0m")]) == ""


def _summary(complaint: str) -> str:
    found = re.findall(r'summary="([^"]+)"', complaint)
    assert len(found) == 1, complaint or "it is silent"
    assert not re.search(r"<no value>|\{\{|NaN|error", found[0]), found
    return str(found[0])


@pytest.mark.deploy
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_is_silent_on_what_is_well(case: Case, tmp_path: Path) -> None:
    alert = BY_NAME[case.alert]
    assert check_series(tmp_path, case.healthy, [silent(alert, at) for at in (case.at, "3h")]) == ""


@pytest.mark.deploy
def test_nothing_is_told_of_a_healthy_server(tmp_path: Path) -> None:
    expectations = [silent(alert, at) for alert in ALERTS for at in ("30m", "2h", "3h59m")]
    assert check_series(tmp_path, HEALTHY, expectations) == ""
