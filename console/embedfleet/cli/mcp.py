"""`mcp`: the fleet as tools of a language model, over standard input and output."""

from __future__ import annotations

import typer

from embedfleet.cli.session import session


def add_to(app: typer.Typer) -> None:
    app.command()(mcp)


def mcp(context: typer.Context) -> None:
    """Serve two tools, search and explain, to an MCP client over standard input and output."""
    from embedfleet.mcp_tools import server_for

    with session(context).fleet() as fleet:
        server_for(fleet).run("stdio")
