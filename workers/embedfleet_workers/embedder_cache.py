"""The embedders of one process: loaded on first use, once for all of its threads."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.database import Database
from embedfleet_schema.settings import Settings
from embedfleet_schema.types import DemandedPrecision, Precision, Space
from embedfleet_workers import signals
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.embedders.engine import Wanted, wanted_of
from embedfleet_workers.embedders.protocol import Embedder, RunsHere
from embedfleet_workers.selfcheck import checked_embedder

if TYPE_CHECKING:
    from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
    from embedfleet_workers.rerankers.api_reranker import ApiReranker

log = logging.getLogger(__name__)

# The device, and the precision that a collection demands.
_Key = tuple[Space, str, DemandedPrecision | None]


class EmbedderCache:
    """Embedders by space, device and demanded precision. Safe to share between threads.

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
        self._loaded: OrderedDict[_Key, Embedder] = OrderedDict()
        self._api: ApiEmbedderFactory | None = None

    def get(
        self, space: Space, device: str, precision: DemandedPrecision | None = None
    ) -> Embedder:
        """The embedder of `space` on a device, in a precision or in that of the settings. Threads
        that ask at once load it once.

        Raises:
            What `checked_embedder` and `load_embedder` raise: next time it is tried again.
        """
        key = (space, device, precision)
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
                    lambda: self._load(*key),
                    allowed_models=self._settings.allowed_models,
                    records=self._records,
                )
                self._say(found, device)
                self._keep(key, found)
            return found

    def any_of(self, space: Space, device: str) -> Embedder:
        """An embedder of `space` that is here in any precision, else that of `get`: queries are
        worth no second copy of a model.
        """
        return self._known((space, device, "float32")) or self.get(space, device)

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
            return list(dict.fromkeys(space for space, *_ in self._loaded))

    def _known(self, key: _Key) -> Embedder | None:
        """What was loaded for that; what runs in a precision anyway is as good as on demand."""
        space, device, precision = key
        usual = (space, device, None)
        with self._lock:
            if precision is not None and precision == self._precision_of(usual):
                key = usual
            if key in self._loaded:
                self._loaded.move_to_end(key)
            return self._loaded.get(key)

    def _precision_of(self, key: _Key) -> Precision | None:
        """What a model of this machine that is here calculates in."""
        found = self._loaded.get(key)
        return found.precision if isinstance(found, RunsHere) else None

    def _keep(self, key: _Key, embedder: Embedder) -> None:
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
            embedder = self._loaded.pop(key)
            if isinstance(embedder, RunsHere):
                signals.model_changed.send(_model(key[0].name, embedder, key[1], is_loaded=False))

    def _say(self, embedder: Embedder, device: str) -> None:
        """What a model runs with is to be seen: in the log, and beside the worker."""
        if isinstance(embedder, RunsHere):
            runs_on = f"{device}: {embedder.engine}, {embedder.precision}"
            log.info("%s runs on %s", embedder.space.name, runs_on)
            self._tell(runs_on)
            signals.model_changed.send(_model(embedder.space.name, embedder, device))

    def _load(self, space: Space, device: str, precision: DemandedPrecision | None) -> Embedder:
        return load_embedder(
            space,
            device=device,
            threads=self._threads,
            allowed_models=self._settings.allowed_models,
            faults=self._faults,
            wanted=self._wanted(space, device, precision),
            api=self._api_factory() if space.provider in API_PROVIDERS else None,
        )

    def _wanted(self, space: Space, device: str, precision: DemandedPrecision | None) -> Wanted:
        """What the collection demands, else what the settings say, and where both leave it open,
        what `embedfleet tune` found.
        """
        wanted = wanted_of(self._settings)
        if precision is not None:
            wanted = replace(wanted, precision=precision)
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


def _model(
    space: str, model: RunsHere, device: str, *, is_loaded: bool = True
) -> signals.LoadedModel:
    return signals.LoadedModel(space, model.engine, model.precision, device, is_loaded)
