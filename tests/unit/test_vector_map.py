"""A map is one page that shows texts as they are written, and asks nobody for anything."""

import re

import numpy as np
import pytest

from embedfleet.vector_map.page import page
from embedfleet.vector_map.projection import placed
from embedfleet_schema.store.samples import Point

HOSTILE = [
    "</script><script>document.hacked = 1</script>",
    "<img src=x onerror='document.hacked = 1'>",
    '<a href="javascript:document.hacked=1">click</a> & &amp; "quoted"',
    "<!--<script>document.hacked = 1//",
    "\u2028 ]]> ${document.hacked=1} `x` \\u003cscript",
    "%{fullData.name} %{x}",
]


# Where the first of all points stands, in pixels; and what is shown of it, once it is.
FIRST_POINT = """(() => {
    const {xaxis, yaxis} = document.querySelector('.plotly-graph-div')._fullLayout;
    return [xaxis._offset + xaxis.d2p(1), yaxis._offset + yaxis.d2p(0)];
})()"""
HOVER_TEXT = """new Promise(done => {
    const look = () => {
        const text = document.querySelector('.hoverlayer').textContent;
        text ? done(text) : setTimeout(look, 50);
    };
    look();
})"""


def clusters(count, width=16):
    """Three heaps, far from each other."""
    noise = np.random.default_rng(0).standard_normal((count, width)) * 0.01
    centres = np.eye(width)[np.arange(count) % 3]
    return (centres + noise).astype(np.float32)


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 60])
def test_each_vector_gets_a_place_and_the_same_one_each_time(method, count):
    places = placed(clusters(count), method)
    assert (count, 2) == places.shape
    assert np.isfinite(places).all()
    assert np.array_equal(places, placed(clusters(count), method))


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_what_is_near_stays_near(method):
    count = 60
    places = placed(clusters(count) * 7, method)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) % 3 == np.arange(count) % 3).all()


def points(values):
    return [Point(f"doc {n}", n, f"text {n}", value) for n, value in enumerate(values)]


def drawn(values, colour="field"):
    places = np.arange(2 * len(values), dtype=np.float32).reshape(-1, 2)
    return page("title", points(values), places, colour)


def names(content):
    return re.findall(r'"name":"([^"]*)"', content.rpartition("Plotly.newPlot(")[2])


def test_values_are_groups_and_many_numbers_a_scale():
    assert ["a", "b", "(none)"] == names(drawn(["a", "b", "a", None]))
    assert [""] == names(drawn(["a", "b"], colour=None))
    many = names(drawn([str(n) for n in range(30)] + ["0"]))
    assert (21, "other values") == (len(many), many[-1])
    assert ["1", "2.5", "true"] == names(drawn([1, 2.5, True]))
    assert [] == names(drawn([n / 2 for n in range(30)] + [None]))


@pytest.mark.chromium
@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is_written_and_runs_nothing(browser, tmp_path, text):
    point = Point(text, 3, text, text)
    content = page(text, [point, Point("other", 0, "x", None)], np.eye(2, dtype=np.float32), text)
    (file := tmp_path / "map.html").write_text(content, encoding="utf-8")
    browser.open(file)
    browser.point_at(*browser.evaluate(FIRST_POINT))
    shown = browser.evaluate(HOVER_TEXT)
    written = "".join(text.split())
    assert 4 == "".join(shown.split()).count(written[:30])
    assert written == "".join(browser.evaluate("document.title").split())
    assert written[:30] in "".join(browser.evaluate("document.body.innerText").split())
    assert browser.evaluate("document.hacked") is None
    assert 0 == browser.evaluate("document.querySelectorAll('img, a[href^=javascript]').length")
    assert [file.as_uri()] == [url for url in browser.requests if not url.startswith("data:")]
    assert [] == browser.complaints


@pytest.mark.chromium
def test_the_tool_bar_offers_nothing_that_leaves_the_page(browser, tmp_path):
    (file := tmp_path / "map.html").write_text(drawn(["a", "b"]), encoding="utf-8")
    browser.open(file)
    buttons = "[...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)"
    assert ["Download plot as a PNG", "Zoom", "Pan", "Box Select", "Lasso Select"] == (
        browser.evaluate(buttons)[:5]
    )
    assert 9 == len(browser.evaluate(buttons))
    assert 0 == browser.evaluate("document.querySelectorAll('a[href]').length")
    shares = "document.querySelector('.plotly-graph-div')._context.showSendToCloud"
    assert browser.evaluate(shares) is False


@pytest.mark.chromium
def test_the_browser_would_refuse_to_fetch_anything(browser, tmp_path):
    (file := tmp_path / "map.html").write_text(drawn(["a", "b"]), encoding="utf-8")
    browser.open(file)
    asked = "fetch('http://127.0.0.1:9/').then(() => 'fetched', error => error.name)"
    assert "TypeError" == browser.evaluate(asked)
    assert any("Content Security Policy" in each for each in browser.complaints)
