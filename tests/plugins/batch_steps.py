"""Which steps the batches of a database take, whatever statement takes them."""

from collections.abc import Callable

from embedfleet.fleet import Fleet
from embedfleet_schema.store.transitions import EDGES
from plugins.fleets import ask

Steps = set[tuple[str | None, str]]

DECLARED: Steps = {(edge.source, target) for edge in EDGES for target in edge.targets}


def watched(fleet: Fleet) -> Callable[[], Steps]:
    """From now on each step is written down in its own transaction; returns what tells them."""
    ask(fleet, "CREATE TABLE public.step (source text, target text)")
    ask(
        fleet,
        "CREATE FUNCTION public.write_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.step VALUES"
        " (CASE TG_OP WHEN 'UPDATE' THEN OLD.state END, NEW.state); RETURN NULL; END $$",
    )
    ask(
        fleet,
        "CREATE TRIGGER write_down AFTER INSERT OR UPDATE OF state ON embedfleet.batch"
        " FOR EACH ROW EXECUTE FUNCTION public.write_down()",
    )
    return lambda: set(ask(fleet, "SELECT DISTINCT source, target FROM public.step"))
