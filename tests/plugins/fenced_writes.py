"""Which vectors were written, and under which lease: noted in the transaction that wrote them."""

from embedfleet.fleet import Fleet
from plugins.fleets import ask

# With the owner's rights, because workers and producers have none here. Heartbeats are not noted:
# they change nothing but the lease. The notes lie elsewhere than the database, whose disk a test
# fills: a note that fails would fail what it is about.
WATCH = r"""
CREATE SCHEMA watched;
CREATE TABLE watched.vector (relation regclass, text_id bigint, xid xid8) TABLESPACE pg_default;
CREATE TABLE watched.batch (id bigint, attempt int, xid xid8) TABLESPACE pg_default;

CREATE FUNCTION watched.note_vector() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO watched.vector VALUES (TG_RELID, NEW.text_id, pg_current_xact_id());
    RETURN NULL;
END $$;

CREATE FUNCTION watched.note_batch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO watched.batch VALUES (NEW.id, NEW.attempt, pg_current_xact_id());
    RETURN NULL;
END $$;

CREATE TRIGGER watched AFTER UPDATE OF state, stored ON embedfleet.batch FOR EACH ROW
WHEN (OLD.state = 'leased' OR NEW.state = 'leased') EXECUTE FUNCTION watched.note_batch();

CREATE FUNCTION watched.watch(relation regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER watched AFTER INSERT ON %s FOR EACH ROW
        EXECUTE FUNCTION watched.note_vector()', relation
    );
END $$;

CREATE FUNCTION watched.watch_new() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM watched.watch(objid::regclass)
    FROM pg_event_trigger_ddl_commands()
    WHERE object_type = 'table' AND object_identity LIKE 'embedfleet.\_vectors\_%';
END $$;

CREATE EVENT TRIGGER watch_new ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
EXECUTE FUNCTION watched.watch_new();

SELECT watched.watch(oid::regclass)
FROM pg_class
WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'r'
    AND relname LIKE '\_vectors\_%';
"""
# A part of a statement by which a test writes vectors itself.
AS_IF_LEASED = "told AS (INSERT INTO watched.batch VALUES (0, 0, pg_current_xact_id()))"
UNFENCED = """
SELECT v.relation::text, v.text_id
FROM watched.vector AS v
WHERE NOT EXISTS (SELECT FROM watched.batch AS b WHERE b.xid = v.xid)
ORDER BY 1, 2
"""


def watch(fleet: Fleet) -> None:
    """From now on."""
    with fleet.db.transaction() as conn:
        conn.execute(WATCH)


def unfenced(fleet: Fleet) -> list[tuple[str, int]]:
    """The vectors whose transaction changed no batch under the attempt that had leased it.

    Whoever lost its lease changes no batch: each change of one is bound to its attempt.
    """
    return ask(fleet, UNFENCED)
