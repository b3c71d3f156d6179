"""The picture as one page of HTML, which asks nobody for anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.store.samples import Point

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Colours that a person can tell apart; what has another value is grey.
_COLOURS, _OTHER = 20, "other values"
_NONE = "(none)"
_LINE, _LONGEST_NAME = 80, 40
# The browser itself refuses to fetch anything; WebGL's code is made in the page (unsafe-eval).
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline';"
    " img-src data: blob:"
)
# The tool bar has a button that uploads all of it to plotly's own service, unless told otherwise.
_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["sendDataToCloud", "sendChartToCloud"],
}


def page(
    title: str, points: Sequence[Point], places: NDArray[np.float32], colour: str | None
) -> str:
    """All of the page: `places` has a row for each point, `colour` names what they are coloured by.

    What is shown of texts and metadata is shown as it is written: neither the browser nor the
    library that draws reads it as HTML.

    Raises:
        ExtraMissing: plotly is not installed.
    """
    try:
        from plotly.graph_objects import Figure
        from plotly.io import to_html
    except ModuleNotFoundError as error:
        raise ExtraMissing(feature="A map", extra="map") from error

    figure = Figure(
        layout={
            "title": {"text": _shown(title)},
            "template": "none",
            "hovermode": "closest",
            "legend": {"title": {"text": _shown(colour or "")}, "itemsizing": "constant"},
            "xaxis": {"visible": False},
            "yaxis": {"visible": False, "scaleanchor": "x"},
        }
    )
    hovers = [_hover(point, colour) for point in points]
    values = [point.value for point in points]
    if colour is not None and _is_scale(values):
        _draw_scale(figure, places, hovers, values, colour)
    else:
        _draw_groups(figure, places, hovers, values, colour)
    drawn: str = to_html(figure, include_plotlyjs=True, config=_CONFIG)
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    name = f"<title>{escape(title)}</title><style>body {{margin: 0}}</style>"
    return drawn.replace("<head>", f"<head>\n    {head}\n    {name}", 1)


def _draw_groups(
    figure: Figure,
    places: NDArray[np.float32],
    hovers: Sequence[str],
    values: Sequence[Any],
    colour: str | None,
) -> None:
    """A group of points for each of the values that occur most."""
    names = [_name(value) if colour is not None else "" for value in values]
    common = [name for name, _ in Counter(names).most_common(_COLOURS)]
    groups = [name if name in common else _OTHER for name in names]
    for name in dict.fromkeys([*common, *groups]):
        rows = [row for row, group in enumerate(groups) if group == name]
        grey = {"color": "lightgrey"} if name in (_OTHER, _NONE) and colour is not None else {}
        figure.add_scattergl(
            x=places[rows, 0],
            y=places[rows, 1],
            name=_shown(name),
            text=[hovers[row] for row in rows],
            **_points(grey),
            showlegend=colour is not None,
        )


def _draw_scale(
    figure: Figure,
    places: NDArray[np.float32],
    hovers: Sequence[str],
    values: Sequence[Any],
    colour: str,
) -> None:
    """Numbers as a scale of colours; what has none is grey."""
    there = [row for row, value in enumerate(values) if _is_number(value)]
    lacking = [row for row, value in enumerate(values) if not _is_number(value)]
    scale = {
        "color": [values[row] for row in there],
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": _shown(colour)}},
    }
    for rows, marker in ((lacking, {"color": "lightgrey"}), (there, scale)):
        figure.add_scattergl(
            x=places[rows, 0],
            y=places[rows, 1],
            text=[hovers[row] for row in rows],
            **_points(marker),
            showlegend=False,
        )


def _points(marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "mode": "markers",
        "marker": {"size": 5, "opacity": 0.7, **marker},
        "hovertemplate": "%{text}<extra></extra>",
        "hoverlabel": {"align": "left"},
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scale(values: Sequence[Any]) -> bool:
    """Whether they are numbers, more of them than there are colours."""
    there = [value for value in values if value is not None]
    return all(map(_is_number, there)) and len(set(there)) > _COLOURS


def _name(value: object) -> str:
    if value is None:
        return _NONE
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _hover(point: Point, colour: str | None) -> str:
    lines = [f"<b>{_shown(point.document)}</b> #{point.position}"]
    if colour is not None:
        lines.append(f"{_shown(colour)}: {_shown(_name(point.value))}")
    return "<br>".join([*lines, *map(_shown, wrap(point.beginning, _LINE))])


def _shown(text: str) -> str:
    """For plotly, which takes some HTML, and characters by their names, in any text."""
    return escape(text, quote=False)
