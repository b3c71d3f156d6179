"""`console`: the HTTP API and the web page of a fleet."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from embedfleet.cli.output import note, print_json, say
from embedfleet.cli.parameters import Json
from embedfleet.cli.session import session
from embedfleet_schema.errors import ExtraMissing

TOKEN_FILE = "console-token"  # noqa: S105 - the name of a file

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="0: any free one.")]
Actions = Annotated[
    bool, typer.Option("--allow-actions", help="Let the page pause, resume, cancel and retry.")
]
Proxy = Annotated[
    bool,
    typer.Option("--behind-proxy", help="A proxy in front speaks TLS: plain HTTP on any address."),
]
Certificate = Annotated[Path | None, typer.Option(metavar="FILE", help="Of TLS, as PEM.")]
PrivateKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Of that certificate.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the page's token goes. Default: the data folder."),
]


def add_to(app: typer.Typer) -> None:
    app.command()(console)


def console(
    context: typer.Context,
    *,
    host: Host = "127.0.0.1",
    port: Port = 8780,
    allow_actions: Actions = False,
    behind_proxy: Proxy = False,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Serve the HTTP API and the web page until Ctrl-C."""
    _require()
    from embedfleet.web.console import Console
    from embedfleet.web.serving import Address, serve
    from embedfleet.web.sessions import Sessions, new_secret
    from embedfleet_schema.private_files import write_private

    address = Address(host, port, behind_proxy, certificate, private_key)
    address.check()
    with session(context).fleet() as fleet:
        token = new_secret()
        file = token_file or fleet.settings.data / TOKEN_FILE
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, token + "\n")

        def tell(url: str) -> None:
            if json:
                print_json({"url": url, "token_file": file, "pid": os.getpid()}, indent=None)
                sys.stdout.flush()
                return
            say(f"{url}  (Ctrl-C ends it)")
            note(f"The page asks for a token: cat {file}")
            note("The API asks for a key: embedfleet key create NAME --scope search")

        shown = Console(fleet, Sessions(token), allow_actions=allow_actions, secure=address.secure)
        try:
            serve(shown, address, tell)
        finally:
            file.unlink(missing_ok=True)


def _require() -> None:
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise ExtraMissing(feature="The console", extra="web") from error
    del starlette, uvicorn
