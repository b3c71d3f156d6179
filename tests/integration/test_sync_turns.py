"""One process at a time moves the documents of a sync, and who lost its turn stores nothing."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psycopg
import pytest

from embedfleet.errors import Blocked, SyncStopped, TurnLost
from embedfleet.fleet import Fleet
from embedfleet.sync_following import following, prepared
from embedfleet_schema.database import SYNC_LOCK_SPACE
from embedfleet_schema.store import sync_rows, syncs
from embedfleet_schema.store.sync_turns import taken
from plugins.fleets import ask, drain
from plugins.synced_tables import ROWS, in_table, texts


def always():
    return True


def turn_of(fleet, articles, *, waits=False):
    sync = articles.status
    return following(fleet, sync, prepared(fleet.db, sync), waits=waits)


def test_of_two_processes_one_has_the_turn_and_the_other_does_not_wait(fleet, articles):
    with turn_of(fleet, articles) as first, turn_of(fleet, articles) as second:
        assert first is not None
        assert second is None
    with turn_of(fleet, articles) as third:
        assert third is not None


def test_who_waits_too_long_for_a_turn_hears_who_has_it(fleet, articles):
    with turn_of(fleet, articles):
        impatient = Fleet(fleet.settings.model_copy(update={"lock_wait_seconds": 1.0}))
        with impatient, pytest.raises(Blocked, match="Held by: pid"):
            impatient.sync("articles").catch_up()


def test_a_process_that_was_frozen_stores_no_older_row_over_a_newer_one(
    fleet, worker, articles, monkeypatch
):
    """It read the row, froze, lost its turn, and comes back when another has stored a newer one."""
    articles.catch_up()
    ask(fleet, "UPDATE public.articles SET body = 'older' WHERE id = 1")
    contents = sync_rows.contents

    def freezing(*given):
        found = contents(*given)
        monkeypatch.setattr(sync_rows, "contents", contents)
        lose_turn(fleet)
        ask(fleet, "UPDATE public.articles SET body = 'newer' WHERE id = 1")
        articles.catch_up()
        return found

    monkeypatch.setattr(sync_rows, "contents", freezing)
    with turn_of(fleet, articles) as turn, pytest.raises(TurnLost):
        turn.work(always, lambda _rows: None)
    drain(worker())
    assert "title 1\n\nnewer" == texts(fleet)["1"]
    assert 0 == articles.verify().differences


def test_a_process_that_was_frozen_removes_no_row_that_came_back(fleet, articles, monkeypatch):
    articles.catch_up()
    ask(fleet, "DELETE FROM public.articles WHERE id = 1")
    sized = sync_rows.sized

    def freezing(*given):
        found = sized(*given)
        monkeypatch.setattr(sync_rows, "sized", sized)
        lose_turn(fleet)
        ask(fleet, ROWS, 1, 1)
        articles.catch_up()
        return found

    monkeypatch.setattr(sync_rows, "sized", freezing)
    with turn_of(fleet, articles) as turn, pytest.raises(TurnLost):
        turn.work(always, lambda _rows: None)
    assert 5 == len(list(fleet.collection("articles").documents()))


def lose_turn(fleet):
    """As the server ends the transaction of a process that says nothing for a minute."""
    ask(
        fleet,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks"
        " WHERE locktype = 'advisory' AND classid = %s AND mode = 'ExclusiveLock'",
        SYNC_LOCK_SPACE,
    )


@pytest.mark.parametrize("step", ["_store", "_remove"])
def test_a_process_that_dies_in_between_loses_no_change(fleet, worker, articles, monkeypatch, step):
    articles.catch_up()
    ask(fleet, "UPDATE public.articles SET body = 'changed' WHERE id = 1")
    ask(fleet, "DELETE FROM public.articles WHERE id = 2")
    with turn_of(fleet, articles) as turn:
        done = getattr(turn, step)

        def dying(*given, **named):
            done(*given, **named)
            raise ZeroDivisionError

        monkeypatch.setattr(turn, step, dying)
        with pytest.raises(ZeroDivisionError):
            turn.work(always, lambda _rows: None)
    assert 2 == articles.status.behind
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_a_change_that_is_committed_late_is_not_passed_over(fleet, worker, articles):
    """Its number in the outbox is smaller than that of one that was followed before."""
    articles.catch_up()
    with psycopg.connect(fleet.settings.direct_database) as late:
        late.execute("UPDATE public.articles SET body = 'late' WHERE id = 1")
        ask(fleet, "UPDATE public.articles SET body = 'early' WHERE id = 2")
        articles.catch_up()
        late.commit()
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_a_row_that_is_changed_while_it_is_stored_is_read_again(
    fleet, worker, articles, monkeypatch
):
    contents = sync_rows.contents

    def changing(*given):
        found = contents(*given)
        monkeypatch.setattr(sync_rows, "contents", contents)
        ask(fleet, "UPDATE public.articles SET body = 'meanwhile' WHERE id = 1")
        ask(fleet, "DELETE FROM public.articles WHERE id = 2")
        return found

    monkeypatch.setattr(sync_rows, "contents", changing)
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_a_process_that_is_told_to_stop_begins_nothing_more_and_loses_nothing(
    fleet, worker, articles, monkeypatch
):
    articles.catch_up()
    ask(fleet, "UPDATE public.articles SET body = 'changed'")
    stopping, contents = Event(), sync_rows.contents

    def told(*given):
        stopping.set()
        return contents(*given)

    monkeypatch.setattr(sync_rows, "contents", told)
    sync = articles.status
    table = prepared(fleet.db, sync)
    with (
        following(fleet, sync, table, waits=False, stopped=stopping.is_set) as turn,
        pytest.raises(SyncStopped, match="told to stop"),
    ):
        turn.work(always, lambda _rows: None)
    assert 5 == articles.status.behind
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_a_dropped_sync_ends_the_turn_of_who_follows_it(fleet, articles, monkeypatch):
    with turn_of(fleet, articles) as turn:
        articles.drop()
        with pytest.raises(TurnLost):
            turn.work(always, lambda _rows: None)
    assert [] == list(fleet.collection("articles").documents())


def test_triggers_that_two_processes_want_to_make_are_made_once(fleet, articles):
    with ThreadPoolExecutor(4) as pool:
        names = ["events"] * 4
        ask(fleet, "CREATE TABLE public.events (id int PRIMARY KEY, body text)")
        fleet.collection("events", model="fake/16")
        made = list(
            pool.map(lambda name: fleet.sync(name, table="events", key="id", text="body"), names)
        )
    assert 1 == len({each.status.id for each in made})
    with taken(fleet.db, syncs.list_all(fleet.db)[0], waits=False) as fenced:
        assert fenced is not None
        assert fleet.db.name == fenced.name
