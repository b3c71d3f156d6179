"""What the pages of the console draw stays in its frame, and what an address carries comes back."""

from urllib.parse import parse_qs, urlsplit

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.web.pages.plots import HEIGHT, WIDTH, columns
from embedfleet.web.pages.rendering import at, excerpt
from embedfleet.web.pages.search_pages import MAP_HEIGHT, MAP_WIDTH, _dots, _legend
from embedfleet_schema.store.samples import Point

amounts = st.lists(st.integers(0, 10**12), max_size=80)


def drawn(values):
    names = [f"{n} min ago" for n in range(len(values))]
    return columns("Texts", values, names, list(map(str, values)), summary="some")


@given(amounts)
def test_columns_stay_in_the_plot_and_what_is_not_nothing_can_be_seen(values):
    plot = drawn(values)
    for amount, column in zip(values, plot.columns, strict=True):
        assert 0 <= column.x <= column.x + column.width <= WIDTH + 0.1
        assert abs(column.y + column.height - HEIGHT) < 0.1
        assert (column.height >= 1.0) == (amount > 0)
        assert column.says.endswith(f": {amount}")
    assert str(max(values, default=0)) == plot.highest


def test_a_plot_of_nothing_has_no_columns():
    plot = drawn([])
    assert ([], "0", "") == (plot.columns, plot.highest, plot.last)


@given(st.integers(1, 40), st.integers(1, 20), st.booleans())
def test_points_of_a_map_stay_in_its_frame(count, width, equal):
    vectors = np.random.default_rng(count).standard_normal((count, width)).astype(np.float32)
    if equal:
        vectors[:] = vectors[0]
    points = [Point(f"d{n}", n, "text", n % 9 or None) for n in range(count)]
    legend = _legend(points)
    for dot in _dots(points, vectors, legend):
        assert 0 <= dot.x <= MAP_WIDTH
        assert 0 <= dot.y <= MAP_HEIGHT
        assert dot.colour is None or str(dot.point.value) == legend[dot.colour]


@given(st.text(min_size=1), st.text())
def test_any_text_comes_back_from_the_query_of_an_address(key, other):
    address = at("collections", "docs", "document", key=key, prefix=other)
    found = parse_qs(urlsplit(address).query, errors="surrogatepass", keep_blank_values=True)
    assert {"key": [key]} | ({"prefix": [other]} if other else {}) == found
    assert address.isascii()


def test_an_excerpt_says_that_it_is_one():
    assert "short" == excerpt("short")
    assert excerpt("x" * 1_000).endswith(" ...")
