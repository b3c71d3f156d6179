"""A comparison as a picture: quality and speed of each model, by the size of chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedfleet.evaluation.comparison import Compared
from embedfleet_schema.errors import ExtraMissing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH_INCHES, _HEIGHT_INCHES = 10.0, 4.0


def write_svg(path: Path, found: Sequence[Compared]) -> None:
    """Write the picture as SVG, with its words as text.

    Raises:
        ExtraMissing: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ExtraMissing(feature="A plot", extra="plots") from error

    sizes = list(dict.fromkeys(each.size for each in found))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "embedfleet"}):
        figure = Figure((_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
        quality, speed = figure.subplots(1, 2)
        _bars(quality, found, sizes, lambda each: each.evaluation.ndcg, "nDCG@10")
        _bars(speed, found, sizes, lambda each: each.chunks_per_s or 0.0, "chunks/s")
        figure.legend(*quality.get_legend_handles_labels(), loc="outside lower center")
        figure.savefig(path, format="svg", metadata={"Date": None})


def check_plots() -> None:
    """Raise ExtraMissing where no plot can be made: asked before what takes long."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ExtraMissing(feature="A plot", extra="plots")


def _bars(
    axes: Axes,
    found: Sequence[Compared],
    sizes: Sequence[int],
    height: Callable[[Compared], float],
    title: str,
) -> None:
    """A group for each size of chunks, a bar in it for each model."""
    models = list(dict.fromkeys((each.model, each.dimensions) for each in found))
    width = 0.8 / len(models)
    for number, (model, dimensions) in enumerate(models):
        own = {e.size: height(e) for e in found if (e.model, e.dimensions) == (model, dimensions)}
        places = [at + number * width for at, size in enumerate(sizes) if size in own]
        heights = [own[size] for size in sizes if size in own]
        bars = axes.bar(places, heights, width, label=f"{model}, {dimensions} dimensions")
        axes.bar_label(bars, fmt="%.3g")
    axes.margins(y=0.12)
    middle = (len(models) - 1) * width / 2
    axes.set_xticks([at + middle for at in range(len(sizes))], [str(size) for size in sizes])
    axes.set_xlabel("most tokens of a chunk")
    axes.set_title(title)
