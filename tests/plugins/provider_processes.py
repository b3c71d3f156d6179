"""Provider processes for tests: see plugins/provider_server."""

from collections.abc import Callable, Iterator

import pytest

from plugins.provider_server.process import ProviderServer

ProviderMaker = Callable[..., ProviderServer]


@pytest.fixture
def provider() -> Iterator[ProviderMaker]:
    """Starts providers with the options of `provider_server.provider.Options`."""
    started: list[ProviderServer] = []

    def start(**options: object) -> ProviderServer:
        started.append(ProviderServer(**options))
        return started[-1]

    yield start
    for each in started:
        each.close()
