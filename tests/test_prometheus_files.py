"""The alerts and the dashboard fit the metrics, and Prometheus's own tool says that the alerts work."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from digsigd.metrics.catalogue import FAMILIES, OUTCOMES, STAGES, TOKEN_STATES

ROOT = Path(__file__).parent.parent
ALERTS = ROOT / "etc/prometheus/alerts.yml"
TESTS = ROOT / "etc/prometheus/alerts_test.yml"
DASHBOARD = ROOT / "etc/grafana/digsigd.json"
DOCUMENT = ROOT / "docs/operate/metrics.md"
EXPORTED = {name for family in FAMILIES.values() for name in family.exported}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bdigsigd_[a-z_]+", text))


@pytest.mark.parametrize("command", [["check", "rules", ALERTS.name], ["test", "rules", TESTS.name]], ids=" ".join)
def test_promtool_accepts_the_alerts_and_their_tests(command: list[str]) -> None:
    """With the expressions, the templates, and what fires when."""
    done = subprocess.run(["promtool", *command], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_every_alert_is_tested_when_it_fires_and_when_it_does_not() -> None:
    """In promtool's own format."""
    checks = [check for test in yaml.safe_load(TESTS.read_text())["tests"] for check in test["alert_rule_test"]]
    for expected in (True, False):
        tested = {check["alertname"] for check in checks if bool(check["exp_alerts"]) == expected}
        assert tested == {rule["alert"] for rule in rules()}, expected


def test_alerts_and_their_tests_name_only_what_is_exported() -> None:
    """Metrics, and values of labels."""
    for path in (ALERTS, TESTS):
        # A description may name a histogram as a whole.
        assert metrics_in(path.read_text()) <= EXPORTED | {family.name for family in FAMILIES.values()}, path
    known = {"outcome": OUTCOMES, "stage": STAGES, "state": (*TOKEN_STATES, "ready", "configured")}
    for label, values in re.findall(r'(outcome|stage|state)=~?"([^"]+)"', ALERTS.read_text() + DASHBOARD.read_text()):
        assert set(values.split("|")) <= set(known[label]), values


def test_every_alert_says_what_to_do() -> None:
    """In a summary of one line, and a description."""
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "\n" not in rule["annotations"]["summary"]


def test_the_dashboard_shows_only_what_is_exported_and_all_of_it() -> None:
    """Each panel has a query, and each metric a panel, but for points in time that alerts use."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert all(panel["targets"] for panel in dashboard["panels"])
    shown = set().union(*map(metrics_in, queries))
    assert shown <= EXPORTED
    missing = {name for name, family in FAMILIES.items() if not shown & set(family.exported)}
    assert missing == {name for name in FAMILIES if name.endswith("_timestamp_seconds")}


def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    """By promtool, with Grafana's variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    recorded = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m").replace("$instance", ".*")}
        for number, query in enumerate(queries)
    ]
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_lists_every_metric() -> None:
    """With its labels and its kind, none more and none less than the daemon exports; and every alert."""
    text = DOCUMENT.read_text()
    rows = re.findall(r"^\| `(digsigd_\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    described = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert described == {
        (f"{one.name}_total" if one.kind == "counter" else one.name, one.kind, one.labels) for one in FAMILIES.values()
    }
    assert set(re.findall(r"^\| `(Digsigd\w+)` \|", text, re.MULTILINE)) == {rule["alert"] for rule in rules()}
    assert metrics_in(text) <= EXPORTED | {family.name for family in FAMILIES.values()}
