"""Runs the provider until its standard input ends: `python -m plugins.provider_server OPTIONS`.

OPTIONS is a JSON object of the fields of `provider.Options`. The first line printed is the port.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading

from plugins.provider_server.http1 import Connection
from plugins.provider_server.provider import FOREIGN_EVERY_S, Options, Provider


async def serve(options: Options) -> None:
    provider = Provider(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider.answer), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        await asyncio.sleep(FOREIGN_EVERY_S)
        if provider.options.foreign:
            provider.take_foreign()


def leave_with_parent() -> None:
    """Whoever started this process holds the other end; when it dies, so does the provider."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=leave_with_parent, daemon=True).start()
    # Nothing here makes cycles worth a pause in the middle of a measurement.
    gc.freeze()
    asyncio.run(serve(Options(**json.loads(sys.argv[1]))))
