-- name: create
INSERT INTO embedfleet.table_sync
    (collection_id, relation, key_columns, text_columns, metadata_columns, source, layout)
VALUES
    (%(collection_id)s, %(relation)s::oid, %(key)s, %(text)s, %(metadata)s, %(source)s, %(layout)s)
RETURNING id;

-- name: follow_anew
-- The table was made anew under its name: what is stored is compared with it.
UPDATE embedfleet.table_sync
SET relation = %(relation)s::oid, layout = %(layout)s, verify_due = true, problem = NULL, waits = false
WHERE id = %(sync_id)s;

-- name: create_function
SELECT embedfleet.create_sync_function(%(sync_id)s);

-- name: drop_function
SELECT embedfleet.drop_sync_function(%(sync_id)s);

-- name: drop_functions_of
-- Of a collection that is dropped.
SELECT embedfleet.drop_sync_function(id)
FROM embedfleet.table_sync
WHERE collection_id = %(collection_id)s;

-- name: clear_outbox_of
DELETE FROM embedfleet.sync_outbox AS o
USING embedfleet.table_sync AS s
WHERE s.collection_id = %(collection_id)s AND o.sync_id = s.id;

-- name: delete
DELETE FROM embedfleet.table_sync WHERE id = %(sync_id)s;

-- name: clear_outbox
DELETE FROM embedfleet.sync_outbox WHERE sync_id = %(sync_id)s;

-- name: wait_briefly
-- Who waits for a table keeps its writers waiting behind him.
SET LOCAL lock_timeout = '2s';

-- name: trigger_insert
CREATE TRIGGER {name} AFTER INSERT ON {table}
REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION embedfleet.{function}();

-- name: trigger_update
CREATE TRIGGER {name} AFTER UPDATE ON {table}
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION embedfleet.{function}();

-- name: trigger_delete
CREATE TRIGGER {name} AFTER DELETE ON {table}
REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION embedfleet.{function}();

-- name: trigger_truncate
CREATE TRIGGER {name} AFTER TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION embedfleet.{function}();

-- name: list
-- With what waits in the outbox: of a very long one, only its beginning is counted. The name of a table
-- that is gone is what it was called first.
SELECT s.id, c.name, s.collection_id, s.relation::oid::bigint AS relation,
    CASE WHEN r.oid IS NULL THEN s.source ELSE format('%%I.%%I', n.nspname, r.relname) END AS table,
    s.key_columns AS key, s.text_columns AS text, s.metadata_columns AS metadata,
    s.source, s.layout, s.created_at, s.paused_at, s.waits, s.backfill_after, s.backfilled,
    coalesce(r.reltuples, -1)::float8 AS estimate, s.backfilled_at, s.verify_due, s.verified_at, s.differences, s.problem,
    o.keys AS behind,
    coalesce(extract(epoch FROM clock_timestamp() - o.since), 0)::float8 AS behind_seconds
FROM embedfleet.table_sync AS s
JOIN embedfleet.collection AS c ON c.id = s.collection_id
LEFT JOIN pg_class AS r ON r.oid = s.relation
LEFT JOIN pg_namespace AS n ON n.oid = r.relnamespace
CROSS JOIN LATERAL (
    SELECT coalesce(sum(coalesce(cardinality(keys), 1)), 0)::bigint AS keys, min(changed_at) AS since
    FROM (
        SELECT keys, changed_at
        FROM embedfleet.sync_outbox
        WHERE sync_id = s.id
        ORDER BY id
        LIMIT 100000
    ) AS oldest
) AS o
WHERE (%(sync_id)s::bigint IS NULL OR s.id = %(sync_id)s)
    AND (%(collection_id)s::bigint IS NULL OR s.collection_id = %(collection_id)s)
ORDER BY c.name;

-- name: due
-- Those that are not paused, and whether each has something to do: rows to be read, a change, a comparison
-- that is due, or nobody who is told of the next change.
SELECT s.id, coalesce(
    s.backfilled_at IS NULL
    OR NOT s.waits
    OR {verification_due}
    OR EXISTS (SELECT FROM embedfleet.sync_outbox AS o WHERE o.sync_id = s.id),
    false
) AS due
FROM embedfleet.table_sync AS s
WHERE s.paused_at IS NULL
ORDER BY s.id;

-- name: verification_due
-- A part of the one before, and a question of its own: 0 hours are never over.
s.verify_due OR %(verify_hours)s > 0
    AND s.verified_at < now() - make_interval(secs => %(verify_hours)s * 3600)

-- name: is_verification_due
SELECT {verification_due} FROM embedfleet.table_sync AS s WHERE s.id = %(sync_id)s;

-- name: pause
UPDATE embedfleet.table_sync SET paused_at = now() WHERE id = %(sync_id)s AND paused_at IS NULL;

-- name: resume
UPDATE embedfleet.table_sync SET paused_at = NULL WHERE id = %(sync_id)s;

-- name: note_problem
-- Changes may be missed meanwhile.
UPDATE embedfleet.table_sync
SET problem = %(problem)s, verify_due = true
WHERE id = %(sync_id)s AND problem IS DISTINCT FROM %(problem)s;

-- name: go_on
-- What stood in the way is gone, or a column has another type: what is stored is compared.
UPDATE embedfleet.table_sync
SET problem = NULL, layout = %(layout)s, verify_due = true
WHERE id = %(sync_id)s;

-- name: begin_turn
UPDATE embedfleet.table_sync SET turn = turn + 1, waits = false WHERE id = %(sync_id)s RETURNING turn;

-- name: fence
-- Whether it is still this one's turn. Who takes over waits for the end of this transaction.
SELECT id FROM embedfleet.table_sync WHERE id = %(sync_id)s AND turn = %(turn)s FOR SHARE;

-- name: listen
LISTEN embedfleet_sync;

-- name: lock
SELECT pg_advisory_xact_lock(%(space)s, %(sync_id)s::int);

-- name: try_lock
SELECT pg_try_advisory_xact_lock(%(space)s, %(sync_id)s::int);

-- name: beat
-- A transaction that holds a lock and says nothing for a minute is taken for frozen.
SELECT 1;

-- name: wait_for_changes
UPDATE embedfleet.table_sync SET waits = true WHERE id = %(sync_id)s AND NOT waits;

-- name: take
-- The oldest changes that are committed, as long as they have not too many keys. Later ones may have
-- smaller numbers: what was taken is deleted by its numbers, one by one.
SELECT id, keys
FROM (
    SELECT id, keys, sum(coalesce(cardinality(keys), 1)) OVER (ORDER BY id) AS so_far
    FROM (
        SELECT id, keys
        FROM embedfleet.sync_outbox
        WHERE sync_id = %(sync_id)s
        ORDER BY id
        LIMIT %(limit)s
    ) AS oldest
) AS counted
WHERE so_far <= %(limit)s
ORDER BY id;

-- name: forget
DELETE FROM embedfleet.sync_outbox WHERE sync_id = %(sync_id)s AND id = ANY (%(ids)s::bigint[]);

-- name: pending
-- Those of some keys that changed and are not followed yet.
SELECT DISTINCT k.key
FROM embedfleet.sync_outbox AS o
CROSS JOIN LATERAL unnest(o.keys) AS k (key)
WHERE o.sync_id = %(sync_id)s AND k.key = ANY (%(keys)s);

-- name: is_emptied
-- Whether the table was truncated, and that is not followed yet.
SELECT EXISTS (
    SELECT FROM embedfleet.sync_outbox WHERE sync_id = %(sync_id)s AND keys IS NULL
) AS emptied;

-- name: move_backfill
UPDATE embedfleet.table_sync
SET backfill_after = %(after)s, backfilled = backfilled + %(rows)s
WHERE id = %(sync_id)s;

-- name: end_backfill
-- All of the table was just read, which is as good as a comparison.
UPDATE embedfleet.table_sync
SET backfilled_at = now(), verified_at = now(), differences = 0
WHERE id = %(sync_id)s AND backfilled_at IS NULL;

-- name: end_verification
UPDATE embedfleet.table_sync
SET verified_at = now(), differences = %(differences)s, verify_due = verify_due AND NOT %(mended)s
WHERE id = %(sync_id)s;

-- name: current_job
-- The job that takes the documents of today; a cancelled one takes none.
SELECT j.id
FROM embedfleet.table_sync AS s
JOIN embedfleet.job AS j
    ON j.id = CASE WHEN %(backfill)s THEN s.backfill_job_id ELSE s.job_id END
WHERE s.id = %(sync_id)s AND j.cancelled_at IS NULL AND j.collection_id = s.collection_id
    AND (%(backfill)s OR j.created_at > now() - interval '1 day');

-- name: set_job
UPDATE embedfleet.table_sync
SET backfill_job_id = CASE WHEN %(backfill)s THEN %(job_id)s ELSE backfill_job_id END,
    job_id = CASE WHEN %(backfill)s THEN job_id ELSE %(job_id)s END
WHERE id = %(sync_id)s;

-- name: own_keys
-- Those of some keys whose documents came from this table.
SELECT key FROM embedfleet.{documents} WHERE key = ANY (%(keys)s) AND source = %(source)s;

-- name: own_documents
-- A page of all that did, by number.
SELECT max(id) AS last, array_agg(key) FILTER (WHERE source = %(source)s) AS keys
FROM (
    SELECT id, key, source
    FROM embedfleet.{documents}
    WHERE id > %(after)s
    ORDER BY id
    LIMIT %(limit)s
) AS page;

-- name: own_verdicts
-- A page of rows that were not accepted, by key.
SELECT document_key
FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND document_key > %(after)s AND source = %(source)s
ORDER BY document_key
LIMIT %(limit)s;

-- name: forget_verdicts
-- On rows that are gone. Locked in one order, as everywhere.
WITH gone AS (
    DELETE FROM embedfleet.failure
    WHERE id IN (
        SELECT id
        FROM embedfleet.failure
        WHERE collection_id = %(collection_id)s AND document_key = ANY (%(keys)s)
            AND source = %(source)s
        ORDER BY document_key
        FOR UPDATE
    )
    RETURNING collection_id
)
{count_forgotten};
