"""Pages of metrics, as Prometheus reads them."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from embedfleet_schema.metrics import METRICS

LABELS = {name: metric.labels for metric in METRICS for name in metric.series}
Values = dict[tuple[str, tuple[str, ...]], float]


def values(text: str) -> Values:
    """Each sample of a page by its name and the values of its labels, in the order of the list."""
    return {
        (sample.name, tuple(sample.labels[label] for label in LABELS[sample.name])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def scrape(port: int) -> str:
    """A page as it is served; empty while nobody serves."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            return answer.read().decode()
    except OSError:
        return ""
