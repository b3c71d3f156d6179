"""`collection migrate`, `rename` and `swap`: another model, or another name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.option_groups import ungrouped
from embedfleet.cli.output import note, print_json, say
from embedfleet.cli.parameters import Budget, Json, Name, Yes, unicode_text
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UsageError
from embedfleet_schema.types import Queue, Storage

if TYPE_CHECKING:
    from embedfleet import Collection
    from embedfleet_schema.store.model_changes import ModelChange

NewModel = Annotated[
    str | None,
    typer.Option("--model", help="The new model: name on the hub, directory, or provider/name."),
]
NewDimensions = Annotated[
    int | None, typer.Option("--dimensions", min=1, help="Length of the new vectors.")
]
NewMaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", min=1, help="Tokens that a model unknown to embedfleet takes."),
]
NewStorage = Annotated[
    Storage | None, typer.Option("--storage", help="float32, or float16 at half the size.")
]
NewQueue = Annotated[
    Queue | None, typer.Option("--queue", help="The queue whose workers embed it.")
]
NewTokenizer = Annotated[
    str, typer.Option("--tokenizer", help="Count tokens with this model's or file's tokenizer.")
]
Keep = Annotated[
    str,
    typer.Option(
        metavar="DAYS", help="How long the former one is to be kept, such as 7d. --finish drops it."
    ),
]
NoSwitch = Annotated[
    bool,
    typer.Option("--no-switch", help="Stop when the new one is ready, as NAME_next."),
]
AllowFailures = Annotated[
    bool,
    typer.Option("--allow-failures", help="Go on if more chunks fail than with the former model."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be embedded and paid. Nothing is done.")
]
Status = Annotated[bool, typer.Option("--status", help="Say how far the change is.")]
Rollback = Annotated[bool, typer.Option("--rollback", help="Let the former model serve again.")]
Finish = Annotated[
    bool, typer.Option("--finish", help="Drop the collection that does not serve. No way back.")
]
Cascade = Annotated[
    bool, typer.Option("--cascade", help="With --finish: also drop views that read it.")
]
NewName = Annotated[str, typer.Argument(metavar="NEW", help="The new name.", callback=unicode_text)]
OtherName = Annotated[
    str, typer.Argument(metavar="OTHER", help="The other collection.", callback=unicode_text)
]
_DAYS = re.compile(r"(\d{1,5})d?")


@dataclass(frozen=True, slots=True)
class To:
    """The new model."""

    model: NewModel = None
    dimensions: NewDimensions = None
    max_tokens: NewMaxTokens = None
    storage: NewStorage = None
    queue: NewQueue = None
    tokenizer: NewTokenizer = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What is asked for, if not all of it."""

    dry_run: DryRun = False
    status: Status = False
    rollback: Rollback = False
    finish: Finish = False

    def check(self, to: To) -> None:
        """Raise UsageError where these do not go together."""
        asked = [
            name for name in ("dry_run", "status", "rollback", "finish") if getattr(self, name)
        ]
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in asked)
        if len(asked) > 1:
            raise UsageError(reason=f"{flags} do not go together; give one of them")
        if asked and asked != ["dry_run"] and to.model is not None:
            raise UsageError(reason=f"{flags} takes no --model")
        if self.dry_run and to.model is None:
            raise UsageError(reason="--dry-run takes the new model: --model MODEL")


def add_to(group: typer.Typer) -> None:
    group.command()(ungrouped(migrate))
    group.command()(rename)
    group.command()(swap)


def migrate(
    context: typer.Context,
    name: Name,
    *,
    to: To,
    step: Step,
    budget: Budget = None,
    keep: Keep = "7d",
    no_switch: NoSwitch = False,
    allow_failures: AllowFailures = False,
    yes: Yes = False,
    cascade: Cascade = False,
    json: Json = False,
) -> None:
    """Move a collection to another model, while it is read and written.

    NAME_next is filled from the stored chunks. When it lacks nothing, it takes the name at once,
    and the former one is NAME_old. After an interruption, run it again.
    """
    step.check(to)
    days = _days(keep)
    with session(context).fleet(looks_only=step.dry_run or step.status) as fleet:
        collection = fleet.collection(name)
        if step.dry_run:
            _plan(collection, to, json=json)
        elif step.status:
            _say_change(collection.model_change(), name, json=json)
        elif step.finish:
            _finish(collection, yes=yes, cascade=cascade, json=json)
        elif step.rollback:
            with _resumable(name, "--rollback"):
                change = collection.migrate_back(budget_usd=budget, progress=not json)
            _say_change(change, name, json=json)
        else:
            with _resumable(name):
                change = collection.migrate(
                    to.model,
                    dimensions=to.dimensions,
                    max_tokens=to.max_tokens,
                    storage=to.storage,
                    queue=to.queue,
                    tokenizer=to.tokenizer,
                    budget_usd=budget,
                    keep_days=days,
                    switch=not no_switch,
                    allow_failures=allow_failures,
                    progress=not json,
                )
            _say_change(change, name, json=json)


def rename(context: typer.Context, name: Name, new: NewName, json: Json = False) -> None:
    """Give a collection another name. What reads its view goes on to read it."""
    with session(context).fleet() as fleet:
        fleet.collection(name).rename(new)
    if json:
        print_json({"former": name, "name": new})
    else:
        say(f"{name} is {new} now")


def swap(context: typer.Context, name: Name, other: OtherName, json: Json = False) -> None:
    """Let two collections change their names, in one transaction.

    Views, the granted search and readers stay with the name.
    """
    with session(context).fleet() as fleet:
        fleet.collection(name).swap(other)
        found = {each: fleet.collection(each).info.space.name for each in (name, other)}
    if json:
        print_json({"swapped": [name, other], "models": found})
    else:
        say(f"{name} and {other} have changed places: {name} is of {found[name]} now")


def change_json(change: ModelChange | None) -> dict[str, Any] | None:
    """A change as `--json` shows it."""
    if change is None:
        return None
    return {
        "serves": change.served.name,
        "model": change.served.space.name,
        "other": change.other.name,
        "other_model": change.other.space.name,
        "changed_documents": change.changed,
        "listed": change.listed,
        "switched": change.switched,
        "began_at": change.began_at,
        "switched_at": change.switched_at,
        "keep_until": change.keep_until,
    }


def _days(text: str) -> int:
    found = _DAYS.fullmatch(text.strip())
    if found is None:
        raise UsageError(reason=f"--keep takes days, such as 7d, not {text!r}")
    return int(found[1])


def _plan(collection: Collection, to: To, *, json: bool) -> None:
    from embedfleet.cli.costs import say_plan

    found = collection.migrate_plan(
        to.model or "",
        dimensions=to.dimensions,
        max_tokens=to.max_tokens,
        storage=to.storage,
        tokenizer=to.tokenizer,
    )
    if json:
        print_json(found)
    else:
        say_plan(found)


def _finish(collection: Collection, *, yes: bool, cascade: bool, json: bool) -> None:
    change = collection.model_change()
    if change is not None and not yes:
        what = f"{change.other.name} ({change.other.space.name})"
        if not sys.stdin.isatty():
            raise UsageError(reason=f"To drop {what} without confirmation, add --yes")
        typer.confirm(f"Drop {what}?", abort=True, err=True)
    along = collection.migrate_finish(cascade=cascade)
    if json:
        print_json({"name": collection.name, "along": along})
        return
    say(f"{collection.name} has its model to itself: {collection.info.space.name}")
    for line in along:
        say(line)


@contextmanager
def _resumable(name: str, option: str = "") -> Iterator[None]:
    """Whoever is interrupted is told how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"What is done stays. Go on: embedfleet collection migrate {name} {option}".rstrip())
        raise


def _say_change(change: ModelChange | None, name: str, *, json: bool) -> None:
    if json:
        print_json(change_json(change))
        return
    if change is None:
        say(f"{name} is in no model change")
        return
    other, model = change.other.name, change.other.space.name
    say(f"{name} serves with {change.served.space.name}")
    left = quantity(change.changed, "document")
    if change.switched and change.keep_until is not None:
        until = f"{change.keep_until.astimezone():%Y-%m-%d %H:%M}"
        say(f"{other} ({model}) is to be kept until {until}")
        say(f"{left} changed since the switch")
        note(f"Back: embedfleet collection migrate {name} --rollback")
        note(f"Drop {other}: embedfleet collection migrate {name} --finish")
        return
    more = "" if change.listed else " or more"
    say(f"{other} ({model}) lacks {left}{more}")
    note(f"Go on: embedfleet collection migrate {name}")
