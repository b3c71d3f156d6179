"""`map`: a collection as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedfleet.cli.output import note, print_json, say
from embedfleet.cli.parameters import Json, Name, file_to_write, optional_unicode
from embedfleet.cli.session import session
from embedfleet.vector_map import Method
from embedfleet_schema.errors import UsageError

MOST_POINTS = 50_000
# How much of a text is shown, in characters.
BEGINNING = 240

Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The page to write, as HTML.",
        callback=file_to_write,
    ),
]
Colour = Annotated[
    str | None,
    typer.Option(
        "--color",
        metavar="FIELD",
        help="Colour by this field of the metadata; a path is written $.author.name.",
        callback=optional_unicode,
    ),
]
Points = Annotated[
    int,
    typer.Option(min=1, max=MOST_POINTS, help="The most chunks; of more, so many are drawn."),
]
How = Annotated[
    Method, typer.Option(help="tsne keeps neighbours together; pca is quick and shows less.")
]


def add_to(app: typer.Typer) -> None:
    app.command("map")(draw)


def draw(
    context: typer.Context,
    name: Name,
    output: Output = Path("map.html"),
    color: Colour = None,
    points: Points = 10_000,
    method: How = "tsne",
    json: Json = False,
) -> None:
    """Draw the chunks of a collection as points on a page: near ones mean much the same.

    The page is one file, for any browser, and asks nobody for anything. It holds the beginning of
    each text: whoever has the file can read those.
    """
    from embedfleet.progress import activity
    from embedfleet.vector_map.page import page
    from embedfleet.vector_map.projection import placed
    from embedfleet_schema.store.samples import points as drawn_points

    with session(context).fleet(looks_only=True) as fleet, activity("reading vectors") as tell:
        info = fleet.collection(name).info
        found, vectors, total = drawn_points(
            fleet.db, info, field=color or "", limit=points, characters=BEGINNING
        )
        if not found:
            raise UsageError(reason=f"{name} has no embedded chunks to draw")
        tell(f"placing {len(found):,} points with {method}")
        places = placed(vectors, method)
        which = f"{len(found):,} of {total:,} chunks" if len(found) < total else f"{total:,} chunks"
        title = f"{name}: {which}, {info.space.name}, {method}"
        content = page(title, found, places, color)
    output.write_text(content, encoding="utf-8")
    if json:
        print_json({"file": str(output), "points": len(found), "of": total, "method": method})
        return
    say(f"{output}: {which}")
    if len(found) < total:
        note(f"The others were left out at random. For up to {MOST_POINTS:,}: --points")
    if color is not None and all(each.value is None for each in found):
        note(f"No chunk has {color} in its metadata")
