"""A collection gets another model, or another name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet.maintenance import Maintenance
from embedfleet_schema.amounts import quantity
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import BadChunking, ModelChangeRefused
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.store import collections, model_changes, names
from embedfleet_schema.store.model_changes import ModelChange
from embedfleet_schema.types import QUEUES, Queue, Space, Storage

if TYPE_CHECKING:
    from embedfleet.planning import Plan
    from embedfleet_producer.plan import Target

KEEP_DAYS = 7
MOST_KEEP_DAYS = 36_500
_DAY_S = 86_400


@translate_errors
class Migrating(Maintenance):
    """The part of `Collection` that changes its model or its name."""

    def migrate(
        self,
        model: str | None = None,
        *,
        dimensions: int | None = None,
        max_tokens: int | None = None,
        storage: Storage | None = None,
        queue: Queue | None = None,
        tokenizer: str = "",
        budget_usd: float | None = None,
        keep_days: int = KEEP_DAYS,
        switch: bool = True,
        allow_failures: bool = False,
        progress: bool = False,
    ) -> ModelChange:
        """Move the collection to another model, while it is read and written.

        A collection `<name>_next` is filled from the stored chunks and kept equal. When it lacks
        nothing, it takes the name in one transaction, and the former one is `<name>_old`. Call
        again to go on after an interruption; then `model` may be left out.

        Args:
            model: the new one, as for `Fleet.collection`. `dimensions`, `max_tokens`, `storage`
                and `queue`, too. The metric stays.
            tokenizer: as in `Chunking`, for a server whose model name does not tell it.
            budget_usd: the most that the embedding of this call may cost.
            keep_days: how long the former one is to be kept. Nothing drops it but `migrate_finish`.
            switch: if not, stop when it is ready. Look at `<name>_next`, and call again.
            allow_failures: switch also if more chunks failed than before.
            progress: show it on the terminal.

        Raises:
            ModelChangeRefused: it cannot be done; nothing was changed.
            NameInUse: others read the view, whose vectors will have another width.
            ModelChangeUnready: it is not switched; call again.
            JobPaused, BudgetSpent: the budget does not pay for more.
            NotPermitted: the user neither owns the schema nor may act as its owner.
        """
        from embedfleet.model_changing import ModelChanging

        days = arguments.whole("migrate", "keep_days", keep_days, least=0, most=MOST_KEEP_DAYS)
        arguments.budget("migrate", budget_usd)
        arguments.words("migrate", model=model, tokenizer=tokenizer)
        for name, value in (("switch", switch), ("allow_failures", allow_failures)):
            arguments.flag("migrate", name, value)
        options = _options("migrate", dimensions, max_tokens, storage, queue)
        self._check_there()
        change = model_changes.find(self._connections.db, self.info)
        if change is None:
            target = self._target(model, options, tokenizer)
            if not allow_failures:
                self._check_fits(target)
            change = model_changes.begin(
                self._connections.db,
                self.info,
                target.space,
                target.chunking,
                queue or self._connections.queue_for(target.space),
                keep_seconds=days * _DAY_S,
            )
            Failpoints.parse(self._connections.settings.failpoints).hit("after_change_begun")
        else:
            self._check_same(change, model, options)
        changing = ModelChanging(
            self._connections, change, budget_usd=budget_usd, progress=progress
        )
        changing.fill()
        changing.index()
        if not allow_failures:
            changing.check_failures()
        if not switch:
            return self._change_of(change)
        return self._switched(changing.switch(keep_seconds=days * _DAY_S))

    def migrate_plan(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        max_tokens: int | None = None,
        storage: Storage | None = None,
        tokenizer: str = "",
    ) -> Plan:
        """What `migrate` would embed and cost. Nothing is written or spent.

        Raises:
            ModelChangeRefused: it cannot be done.
        """
        arguments.words("migrate_plan", model=model, tokenizer=tokenizer)
        options = _options("migrate_plan", dimensions, max_tokens, storage, None)
        self._check_there()
        return self._planned(self._target(model, options, tokenizer))

    def model_change(self) -> ModelChange | None:
        """The model change that the collection is in, and how far it is; None if it is in none."""
        self._check_there()
        return model_changes.find(self._connections.db, self.info)

    def migrate_back(
        self, *, budget_usd: float | None = None, progress: bool = False
    ) -> ModelChange:
        """Let the former model serve again. What changed since the switch is embedded with it
        first; everything else is there. The newer one is `<name>_next` again.

        Raises:
            ModelChangeRefused: nothing was switched.
            ModelChangeUnready, JobPaused, BudgetSpent: as `migrate`.
        """
        from embedfleet.model_changing import ModelChanging

        arguments.budget("migrate_back", budget_usd)
        change = self._change()
        if not change.switched:
            reason = "nothing was switched. To end the change, run it with --finish"
            raise ModelChangeRefused(name=change.name, reason=reason)
        changing = ModelChanging(
            self._connections, change, budget_usd=budget_usd, progress=progress
        )
        changing.fill()
        return self._switched(changing.switch())

    def migrate_finish(self, *, cascade: bool = False) -> list[str]:
        """End the model change: drop the collection that does not serve. This cannot be undone.

        After the switch that is the former one; before it, the new one. Returns what was dropped
        with it.

        Args:
            cascade: also drop your own views that read it.

        Raises:
            ModelChangeRefused: there is no change.
            ViewsInTheWay: there are such views, and no `cascade`.
        """
        from embedfleet.model_changing import ModelChanging

        arguments.flag("migrate_finish", "cascade", cascade)
        change = self._change()
        dropped = ModelChanging(self._connections, change).finish(cascade=cascade)
        self._check_there()
        return dropped

    def rename(self, name: str) -> None:
        """Give the collection another name. Its views, its granted search and its readers stay.

        A program that opened it by the former name goes on, as long as no other one gets that name.

        Raises:
            BadName: it cannot be a name, or is taken.
            InModelChange: it changes its model.
            NotPermitted: the user neither owns the schema nor may act as its owner.
        """
        from embedfleet.model_changing import patiently

        arguments.text("rename", "name", name)
        self._check_there()
        db = self._connections.db
        model_changes.check_outside(db, self.info, "its name stays until that has ended")
        self.info = patiently(self.name, lambda: names.rename(db, self.info, name))

    def swap(self, name: str) -> None:
        """Change names with another collection, in one transaction.

        Views of the name, its granted search and its readers stay with the name. A program that
        opened a name goes on with what has it now.

        Raises:
            UnknownCollection: there is no other one of this name.
            NameInUse: others read a view, whose vectors would have another width.
            InModelChange: one of them changes its model.
            NotPermitted: the user neither owns the schema nor may act as its owner.
        """
        from embedfleet.model_changing import patiently

        arguments.text("swap", "name", name)
        self._check_there()
        db = self._connections.db
        other = collections.find(db, name)
        if other.id == self.info.id:
            raise ModelChangeRefused(name=name, reason="it is the same collection")
        for each in (self.info, other):
            model_changes.check_outside(db, each, "its name stays until that has ended")
        _, self.info = patiently(name, lambda: names.swap(db, self.info, other))

    def _target(self, model: str | None, options: Mapping[str, Any], tokenizer: str) -> Target:
        """The space of the new model, and how the new collection cuts.

        Raises:
            ModelChangeRefused: no model is named, or it does not take such chunks.
        """
        from embedfleet_producer.chunking import settled
        from embedfleet_producer.plan import Target

        own = self.info
        if model is None:
            reason = "no change is under way. Name the new model: --model MODEL"
            raise ModelChangeRefused(name=own.name, reason=reason)
        named = {"storage": own.space.storage, **options}
        space = resolve_space(model, metric=own.space.metric, **named)
        if space == own.space:
            raise ModelChangeRefused(name=own.name, reason=f"its model is {space.name} already")
        chunking = replace(own.chunking, tokenizer=tokenizer)
        try:
            return Target(space, settled(space, chunking))
        except BadChunking as error:
            raise ModelChangeRefused(name=own.name, reason=_cut_anew(space, str(error))) from error

    def _check_fits(self, target: Target) -> None:
        """Count the tokens of all texts before anything is begun."""
        from embedfleet_producer.following import stored_documents
        from embedfleet_producer.plan import Planner, count_all

        db = self._connections.db
        planner = Planner(db, _strict(target))
        count_all(stored_documents(db, self.info), [planner], self._connections.settings)
        more = planner.counted.failed - model_changes.failed_texts(db, self.info)
        if more > 0:
            chunks = quantity(more, "more chunk")
            reason = _cut_anew(target.space, f"{chunks} could not be embedded")
            raise ModelChangeRefused(name=self.name, reason=reason)

    def _planned(self, target: Target) -> Plan:
        from embedfleet.planning import make_plans
        from embedfleet_producer.following import stored_documents

        stored = stored_documents(self._connections.db, self.info)
        (planned,) = make_plans(self._connections, self.name, [_strict(target)], stored)
        return planned

    def _check_same(
        self, change: ModelChange, model: str | None, options: Mapping[str, Any]
    ) -> None:
        """Let only the change that is under way go on."""
        if change.switched:
            at = f"it serves with {change.served.space.name} since a model change"
            reason = f"{at}. End that first: --finish, or --rollback"
            raise ModelChangeRefused(name=change.name, reason=reason)
        if model is None:
            return
        named = {"storage": change.other.space.storage, **options}
        wanted = resolve_space(model, metric=change.other.space.metric, **named)
        if not change.other.space.takes(wanted):
            reason = f"it changes to {change.other.space.name}. End that first: --finish"
            raise ModelChangeRefused(name=change.name, reason=reason)

    def _change(self) -> ModelChange:
        self._check_there()
        return self._change_of(model_changes.find(self._connections.db, self.info))

    def _change_of(self, change: ModelChange | None) -> ModelChange:
        if change is not None:
            change = model_changes.find(self._connections.db, change.served)
        if change is None:
            raise ModelChangeRefused(name=self.name, reason="no change is under way")
        return change

    def _switched(self, change: ModelChange) -> ModelChange:
        self.info = change.served
        return change


def _options(
    call: str,
    dimensions: int | None,
    max_tokens: int | None,
    storage: Storage | None,
    queue: Queue | None,
) -> dict[str, Any]:
    """What is named of a space, checked."""
    numbers = {"dimensions": dimensions, "max_tokens": max_tokens}
    named: dict[str, Any] = {
        name: arguments.whole(call, name, number)
        for name, number in numbers.items()
        if number is not None
    }
    if storage is not None:
        arguments.choice(call, "storage", storage, get_args(Storage))
        named["storage"] = storage
    if queue is not None:
        arguments.choice(call, "queue", queue, QUEUES)
    return named


def _strict(target: Target) -> Target:
    """What does not fit is counted, and not cut to fit."""
    return replace(target, chunking=replace(target.chunking, too_long="reject"))


def _cut_anew(space: Space, problem: str) -> str:
    return (
        f"{problem} with {space.name}, and a model change does not cut documents anew. Create "
        "another collection with that model, enqueue the documents there, and let the two change "
        "names: embedfleet collection swap"
    )
