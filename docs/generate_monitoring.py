"""Write the dashboard, the alerts, and the tables of monitoring.md, each from its list.

python docs/generate_monitoring.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from embedfleet_schema.metrics import EXPORTER_METRICS, WORKER_METRICS, Metric

sys.path.insert(0, str(Path(__file__).parent))

from monitoring_alerts import ALERTS, Alert
from monitoring_panels import ROWS, Panel

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/monitoring.md"
DASHBOARD = ROOT / "deploy/grafana/dashboards/embedfleet.json"
RULES = ROOT / "deploy/prometheus/alerts.yml"

WIDTH, HEIGHT, COLUMNS = 8, 8, 3
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def rendered() -> dict[Path, str]:
    """Each file with what it holds."""
    return {
        DASHBOARD: json.dumps(_dashboard(), indent=2, ensure_ascii=False) + "\n",
        RULES: "# Written by docs/generate_monitoring.py.\n"
        + yaml.safe_dump(_rules(), sort_keys=False, width=100, allow_unicode=True),
        PAGE: _page(PAGE.read_text()),
    }


def _dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": WIDTH * COLUMNS, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": place, "panels": []})
        top += 1
        for number, panel in enumerate(row):
            left = number % COLUMNS * WIDTH
            place = {"x": left, "y": top + number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(panel, place))
        top += -(-len(row) // COLUMNS) * HEIGHT
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return {
        "uid": "embedfleet",
        "title": "embedfleet",
        "description": "Written by docs/generate_monitoring.py.",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "type": "datasource",
                    "query": "prometheus",
                    "label": "Prometheus",
                }
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    stacking = {"mode": "normal" if panel.stacked else "none"}
    custom = {"stacking": stacking, "fillOpacity": 20 if panel.stacked else 0}
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": expr, "legendFormat": legend}
            for number, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def _rules() -> dict[str, Any]:
    return {"groups": [{"name": "embedfleet", "rules": [_rule(alert) for alert in ALERTS]}]}


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasting,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.runbook,
        },
    }


def _page(page: str) -> str:
    page = _filled(page, "workers", _metrics(WORKER_METRICS))
    page = _filled(page, "exporter", _metrics(EXPORTER_METRICS))
    return _filled(page, "alerts", _alerts())


def _filled(page: str, name: str, table: str) -> str:
    """The page with a table between its two marks."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{table}{end}{after}"


def _metrics(metrics: tuple[Metric, ...]) -> str:
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} |"
        f" {each.help} |\n"
        for each in metrics
    ]
    return "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _alerts() -> str:
    rows = [
        f"| `{each.name}` | {each.severity} | {each.lasting} | {_plain(each.summary)} |"
        f" {each.runbook} |\n"
        for each in ALERTS
    ]
    head = "| alert | severity | after | it says | what to do |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(rows)


def _plain(summary: str) -> str:
    """Without the braces of Prometheus' templates."""
    return re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", summary)


if __name__ == "__main__":
    for path, text in rendered().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
