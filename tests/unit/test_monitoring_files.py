"""The dashboard, the alerts and the page about monitoring: fresh, and about real metrics."""

import json
import re
import runpy
import sys

import promql_parser
import pytest
import yaml
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
)

from embedfleet_schema.metrics import METRICS
from plugins.documents import ROOT

sys.path.insert(0, str(ROOT / "docs"))
generated = runpy.run_path(str(ROOT / "docs/generate_monitoring.py"))
from monitoring_alerts import ALERTS  # noqa: E402
from monitoring_panels import ROWS  # noqa: E402

LABELS = {name: {*metric.labels, "instance", "job"} for metric in METRICS for name in metric.series}
LABELS |= {name: labels | {"le"} for name, labels in LABELS.items() if name.endswith("_bucket")}

EXPRESSIONS = {alert.name: alert.expr for alert in ALERTS} | {
    f"{panel.title}: {legend}": expr
    for row in ROWS.values()
    for panel in row
    for legend, expr in panel.queries.items()
}


def selectors(node) -> list[VectorSelector]:
    match node:
        case VectorSelector():
            return [node]
        case MatrixSelector():
            return [node.vector_selector]
        case AggregateExpr() | ParenExpr() | UnaryExpr() | SubqueryExpr():
            return selectors(node.expr)
        case Call():
            return [each for argument in node.args for each in selectors(argument)]
        case BinaryExpr():
            return selectors(node.lhs) + selectors(node.rhs)
    return []


def kept(node) -> set[str] | None:  # noqa: PLR0911 - one for each kind of expression
    """The labels that the answer of an expression has; None where it is a number."""
    match node:
        case VectorSelector():
            return set(LABELS[node.name])
        case MatrixSelector():
            return set(LABELS[node.vector_selector.name])
        case AggregateExpr():
            inner = kept(node.expr)
            wanted = set(node.modifier.labels) if node.modifier else set()
            assert wanted <= inner, f"{wanted - inner} are no labels of {node.expr}"
            return wanted
        case ParenExpr() | UnaryExpr() | SubqueryExpr():
            return kept(node.expr)
        case Call():
            found = [labels for each in node.args if (labels := kept(each)) is not None]
            return found[-1] - ({"le"} if node.func.name == "histogram_quantile" else set())
        case BinaryExpr():
            left, right = kept(node.lhs), kept(node.rhs)
            if left is None or right is None:
                return right if left is None else left
            matched = node.modifier.matching if node.modifier else None
            if matched is None:
                assert left == right, f"the sides of {node} have other labels"
            else:
                assert set(matched.labels) <= left & right
            return left
    return None


def test_the_files_are_those_that_the_lists_make():
    for path, text in generated["rendered"]().items():
        assert text == path.read_text(), f"run docs/generate_monitoring.py: {path.name}"


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_there_are(title):
    parsed = promql_parser.parse(EXPRESSIONS[title])
    found = selectors(parsed)
    assert found
    for selector in found:
        assert selector.name in LABELS, selector.name
        for matcher in selector.matchers.matchers:
            assert matcher.name in LABELS[selector.name], matcher.name
    kept(parsed)


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_only_a_counter_has_a_rate(title):
    kinds = {name: metric.kind for metric in METRICS for name in metric.series}
    rated = re.findall(r"(?:rate|increase)\((\w+)", EXPRESSIONS[title])
    assert all(kinds[name] in ("counter", "histogram") for name in rated)
    drawn = re.findall(r"(?<!delta\()\b(embedfleet_\w+)", EXPRESSIONS[title])
    plain = [name for name in drawn if name not in rated and kinds[name] != "gauge"]
    # What was spent since midnight is a counter that begins anew each day.
    assert set(plain) <= {"embedfleet_usage_usd_total"}


@pytest.mark.parametrize(
    ("legend", "expr"),
    [each for row in ROWS.values() for panel in row for each in panel.queries.items()],
)
def test_a_legend_names_labels_that_the_answer_has(legend, expr):
    assert set(re.findall(r"{{(\w+)}}", legend)) <= kept(promql_parser.parse(expr))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_names_labels_that_it_has_and_says_what_to_do(alert):
    named = set(re.findall(r"\$labels\.(\w+)", alert.summary))
    assert named <= (kept(promql_parser.parse(alert.expr)) or set())
    assert alert.severity in ("warning", "critical")
    assert re.fullmatch(r"\d+[mh]", alert.lasting)
    assert len(alert.runbook) > 20


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    used = {
        selector.name
        for expr in EXPRESSIONS.values()
        for selector in selectors(promql_parser.parse(expr))
    }
    assert [] == [metric.name for metric in METRICS if used.isdisjoint(metric.series)]


def test_the_dashboard_is_one_that_grafana_reads():
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/embedfleet.json").read_text())
    panels = dashboard["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})
    places = [
        (place["x"] + x, place["y"] + y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert {"timeseries", "row"} == {panel["type"] for panel in panels}


def test_the_rules_are_a_file_of_prometheus():
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    assert len(ALERTS) == len({rule["alert"] for rule in group["rules"]})
    assert {"alert", "expr", "for", "labels", "annotations"} == {
        key for rule in group["rules"] for key in rule
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_wants_it(metric):
    assert re.fullmatch(r"embedfleet_[a-z_]+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert metric.help.endswith(".")
    assert {"text", "document", "key", "account"}.isdisjoint(metric.labels)
