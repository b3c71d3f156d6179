"""Another template for a collection, without reading its documents again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet.job import Job
from embedfleet.maintenance import Maintenance
from embedfleet_schema.store import collections, model_changes

if TYPE_CHECKING:
    from embedfleet.planning import Plan
    from embedfleet_producer.enqueue import Enqueued
    from embedfleet_producer.plan import Counted


@translate_errors
class Templating(Maintenance):
    """The part of `Collection` that changes what is embedded with its chunks."""

    def plan_template(
        self, template: str, *, on_window: Callable[[Counted], None] | None = None
    ) -> Plan:
        """What `set_template` would do and cost. Nothing is written or spent.

        `documents` of the plan get a new version. `rejections` name those with a chunk that leaves
        no room for its context.

        Raises:
            BadChunking: it is no template, or leaves no room for a text.
            TemplateUnfinished: the change to another template was cut off.
            InModelChange: it gets another model.
        """
        from embedfleet.planning import counted_plan
        from embedfleet_producer.template_change import count_change

        self._check_change(template, "plan_template", on_window)
        connections = self._connections
        with connections.db.transaction() as conn:
            collections.check_there(conn, self.info)
            current = collections.by_id(conn, self.info.id)
        target, planner = count_change(connections.db, current, template, on_window=on_window)
        return counted_plan(connections, self.name, target, planner)

    def set_template(
        self,
        template: str,
        *,
        budget_usd: float | None = None,
        on_window: Callable[[Enqueued], None] | None = None,
    ) -> Job:
        """Embed what is stored with another template, or with none: "".

        Each document gets a new version from its stored chunks, and serves the former one until
        that is complete. Chunks that brought a context of their own keep it. A document with a
        chunk that leaves no room for its context stays as it is, and is listed in
        `job.enqueued.rejections`: enqueue it again, and it is cut anew.

        What others enqueue meanwhile has the new template. If this call is cut off, repeat it with
        the same template.

        Args:
            template: text with fields in braces: "{title}: {content}".
            budget_usd: the most that the job may cost. It is paused before it costs more.
            on_window: called after each committed page of documents with the counts so far.

        Raises:
            BadChunking: it is no template, or leaves no room for a text; nothing was changed.
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was changed.
            TemplateUnfinished: the change to another template was cut off.
            InModelChange: it gets another model.
        """
        from embedfleet_producer.template_change import Retemplating

        self._check_change(template, "set_template", on_window)
        arguments.budget("set_template", budget_usd)
        connections = self._connections
        producer = Retemplating(
            connections.db, self.info, connections.settings, connections.doorbell
        )
        done = producer.change(template, budget_usd=budget_usd, on_window=on_window)
        with connections.db.transaction() as conn:
            self.info = collections.by_id(conn, self.info.id)
        return Job(connections, done.job_id, done)

    def _check_change(self, template: str, call: str, on_window: object) -> None:
        arguments.text(call, "template", template)
        arguments.function(call, "on_window", on_window)
        self._check_there()
        reason = "its template stays until that has ended"
        model_changes.check_outside(self._connections.db, self.info, reason)
