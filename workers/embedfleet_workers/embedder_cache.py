"""The embedders of one process: loaded on first use, once for all of its threads."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.database import Database
from embedfleet_schema.settings import Settings
from embedfleet_schema.types import Space
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.embedders.engine import Wanted, wanted_of
from embedfleet_workers.embedders.protocol import Embedder, RunsHere
from embedfleet_workers.selfcheck import checked_embedder

if TYPE_CHECKING:
    from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
    from embedfleet_workers.rerankers.api_reranker import ApiReranker

log = logging.getLogger(__name__)


class EmbedderCache:
    """Embedders by space and device. Safe to share between threads.

    Those behind an API weigh nothing and learn as they go, so they stay.

    Args:
        threads: CPU cores that a local model may use; None means all that the process may.
        records: as for `checked_embedder`.
        faults: as for `load_embedder`.
        most: how many models of this machine are kept, those used last; None keeps all.
        tell: is told what a model runs on and with: `cpu: openvino, half`.
    """

    def __init__(
        self,
        settings: Settings,
        db: Database,
        *,
        threads: int | None,
        records: bool,
        faults: str = "",
        most: int | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._db = db
        self._threads = threads
        self._records = records
        self._faults = faults
        self._most = most
        self._tell = tell
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[Space, str], Embedder] = OrderedDict()
        self._api: ApiEmbedderFactory | None = None

    def get(self, space: Space, device: str) -> Embedder:
        """The embedder of `space` on a device. Threads that ask at once load it once.

        Raises:
            What `checked_embedder` and `load_embedder` raise: next time it is tried again.
        """
        key = (space, device)
        found = self._known(key)
        if found is not None:
            return found
        with self._loading:
            found = self._known(key)
            if found is None:
                log.info("loading %s on %s", space.name, device)
                found = checked_embedder(
                    self._db,
                    space,
                    lambda: self._load(space, device),
                    allowed_models=self._settings.allowed_models,
                    records=self._records,
                )
                self._say(found, device)
                self._keep(key, found)
            return found

    def api_reranker(self, provider: str, model: str) -> ApiReranker:
        """A reranker behind an API, which shares the connections and the limits of embedders.

        Raises:
            KeyMissing, ExtraMissing: it cannot be called from here.
        """
        with self._loading:
            return self._api_factory().reranker(provider, model)

    def loaded(self) -> list[Space]:
        """The spaces whose embedders are here; it waits for none that is being loaded."""
        with self._lock:
            return [space for space, _ in self._loaded]

    def _known(self, key: tuple[Space, str]) -> Embedder | None:
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
            return self._loaded.get(key)

    def _keep(self, key: tuple[Space, str], embedder: Embedder) -> None:
        with self._lock:
            self._loaded[key] = embedder
            self._make_room()

    def close(self, *, models: bool) -> None:
        """Give back the connections to APIs; and `models`, where no thread is inside one."""
        with self._lock:
            loaded, self._loaded = self._loaded, OrderedDict()
            api, self._api = self._api, None
        for embedder in loaded.values() if models else ():
            embedder.close()
        if api is not None:
            api.close()

    def _make_room(self) -> None:
        """A model that leaves is not closed: another thread may be inside it."""
        here = [
            key for key, each in self._loaded.items() if each.space.provider not in API_PROVIDERS
        ]
        for key in here[: -self._most] if self._most else ():
            del self._loaded[key]

    def _say(self, embedder: Embedder, device: str) -> None:
        """What a model runs with is to be seen: in the log, and beside the worker."""
        if isinstance(embedder, RunsHere):
            runs_on = f"{device}: {embedder.engine}, {embedder.precision}"
            log.info("%s runs on %s", embedder.space.name, runs_on)
            self._tell(runs_on)

    def _load(self, space: Space, device: str) -> Embedder:
        return load_embedder(
            space,
            device=device,
            threads=self._threads,
            allowed_models=self._settings.allowed_models,
            faults=self._faults,
            wanted=self._wanted(space, device),
            api=self._api_factory() if space.provider in API_PROVIDERS else None,
        )

    def _wanted(self, space: Space, device: str) -> Wanted:
        """What the settings say, and where they leave it open, what `embedfleet tune` found."""
        wanted = wanted_of(self._settings)
        if space.provider != "local" or device != "cpu":
            return wanted
        from embedfleet_workers.embedders.tuning import FILE, tuned

        return tuned(self._settings.data / FILE, space, wanted)

    def _api_factory(self) -> ApiEmbedderFactory:
        """Opened by the first space that needs it: most processes have none."""
        from embedfleet_workers.embedders.api.factory import open_factory

        if self._api is None:
            self._api = open_factory(self._settings, self._db)
        return self._api
