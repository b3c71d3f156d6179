-- name: begin
INSERT INTO embedfleet.model_change (collection_id, other_id, name, keep_seconds)
VALUES (%(collection_id)s, %(other_id)s, %(name)s, %(keep_seconds)s);

-- name: track
-- From now on, what happens to the documents of a collection is listed.
CREATE TRIGGER model_change
AFTER INSERT OR DELETE OR UPDATE OF version, source ON embedfleet.{documents}
FOR EACH ROW EXECUTE FUNCTION embedfleet.note_change({collection_id});

-- name: listen
ALTER TABLE embedfleet.{documents} ENABLE TRIGGER model_change;

-- name: silence
ALTER TABLE embedfleet.{documents} DISABLE TRIGGER model_change;

-- name: untrack
DROP TRIGGER IF EXISTS model_change ON embedfleet.{documents};

-- name: of
-- The model change that a collection is part of, as either of the two.
SELECT m.name, m.collection_id, m.other_id, m.listed, m.began_at, m.switched_at,
    m.switched_at + make_interval(secs => m.keep_seconds) AS keep_until,
    embedfleet.changed_documents(m.collection_id) AS changed,
    coalesce(m.switched_at + make_interval(secs => m.keep_seconds) < now(), false) AS expired
FROM embedfleet.model_change AS m
WHERE {which};

-- name: of_collection
%(id)s IN (m.collection_id, m.other_id);

-- name: expired
-- Those whose former collection was to be kept until a time that is over.
m.switched_at + make_interval(secs => m.keep_seconds) < now();

-- name: hold
-- Two commands that move the same change on take turns.
SELECT listed
FROM embedfleet.model_change
WHERE collection_id = %(collection_id)s AND other_id = %(other_id)s
FOR UPDATE;

-- name: list_page
-- A page of documents that were there before changes were listed, as changed.
WITH page AS (
    SELECT d.key
    FROM embedfleet.{documents} AS d
    WHERE d.key > (SELECT listed_to FROM embedfleet.model_change WHERE collection_id = %(collection_id)s)
    ORDER BY d.key
    LIMIT %(limit)s
), noted AS (
    INSERT INTO embedfleet.document_change (collection_id, key)
    SELECT %(collection_id)s, key FROM page
)
UPDATE embedfleet.model_change
SET listed_to = coalesce((SELECT max(key) FROM page), listed_to),
    listed = (SELECT count(*) FROM page) < %(limit)s
WHERE collection_id = %(collection_id)s AND NOT listed
RETURNING listed;

-- name: last_change
SELECT max(id) FROM embedfleet.document_change WHERE collection_id = %(collection_id)s;

-- name: changes
SELECT id, key
FROM embedfleet.document_change
WHERE collection_id = %(collection_id)s AND id <= %(until)s
ORDER BY id
LIMIT %(limit)s;

-- name: forget_changes
DELETE FROM embedfleet.document_change WHERE id = ANY (%(ids)s::bigint[]);

-- name: weigh
-- How many chunks the newest versions of some documents may have; one that is being removed has none.
SELECT d.key, (SELECT count(*) FROM embedfleet.{chunks} AS c WHERE c.document_id = d.id) AS chunks
FROM embedfleet.{documents} AS d
WHERE d.key = ANY (%(keys)s) AND d.digest <> '';

-- name: all_keys
-- A page of keys of documents that are there, after one that was seen.
SELECT key
FROM embedfleet.{documents}
WHERE key > %(after)s AND digest <> ''
ORDER BY key
LIMIT %(limit)s;

-- name: lacking
-- Documents that readers see in the one that serves, and not so in the other one yet. It has all of them,
-- once no change is left: so only those of it are looked at that wait for a text.
SELECT count(*)
FROM (
    SELECT
    FROM embedfleet.{other_documents} AS o
    JOIN embedfleet.{documents} AS d ON d.key = o.key
    WHERE o.live_version IS DISTINCT FROM o.version AND (
        d.live_version IS NOT DISTINCT FROM d.version
        OR d.live_version IS NOT NULL AND o.live_version IS NULL
    )
    LIMIT 1000
) AS waiting;

-- name: open_jobs
SELECT DISTINCT job_id
FROM embedfleet.batch
WHERE collection_id = %(other_id)s AND state IN ('pending', 'held', 'leased')
ORDER BY job_id;

-- name: failed
SELECT count(*)
FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND text_id IS NOT NULL;

-- name: forget_verdicts
WITH gone AS (
    DELETE FROM embedfleet.failure
    WHERE collection_id = %(other_id)s AND document_key IS NOT NULL
    RETURNING collection_id
)
{count_forgotten};

-- name: copy_verdicts
-- Documents that were not accepted concern the name, whatever model it has.
WITH judged AS (
    INSERT INTO embedfleet.failure
        (collection_id, document_key, code, reason, attempts, job_id, created_at, source)
    SELECT %(other_id)s, document_key, code, reason, attempts, job_id, created_at, source
    FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s AND document_key IS NOT NULL
    ORDER BY document_key
    ON CONFLICT (collection_id, document_key) DO NOTHING
    RETURNING collection_id, {is_new} AS is_new
)
{count_failures};

-- name: switch
UPDATE embedfleet.model_change
SET collection_id = other_id, other_id = collection_id,
    switched_at = CASE WHEN switched_at IS NULL THEN now() END,
    keep_seconds = coalesce(%(keep_seconds)s, keep_seconds)
WHERE collection_id = %(collection_id)s;

-- name: move_sync
-- What follows a table goes on with the one that serves. Whoever is storing rows loses his turn.
UPDATE embedfleet.table_sync
SET collection_id = %(other_id)s, turn = turn + 1, waits = false
WHERE collection_id = %(collection_id)s;

-- name: end
DELETE FROM embedfleet.model_change WHERE collection_id = %(collection_id)s;

-- name: forget_all
DELETE FROM embedfleet.document_change WHERE collection_id = %(collection_id)s;

-- name: succeed
-- Who opened what goes now, or what went before it, is led to what stays.
WITH former AS (
    UPDATE embedfleet.successor SET successor_id = %(successor_id)s WHERE successor_id = %(collection_id)s
)
INSERT INTO embedfleet.successor (collection_id, successor_id)
VALUES (%(collection_id)s, %(successor_id)s);

-- name: lacking_indexes
-- Indexes on the tables of chunks and texts that one collection has and another one lacks, whoever built
-- them; whether one of the new name is there, which a build that was cut off left; and statistics that
-- belong to them.
WITH pairs AS (
    SELECT to_regclass(format('embedfleet.%%I', p.former)) AS former, p.former AS former_name,
        to_regclass(format('embedfleet.%%I', p.other)) AS other, p.other AS other_name
    FROM unnest(%(former)s::text[], %(other)s::text[]) AS p (former, other)
), defined AS (
    SELECT p.*, x.relname AS name, substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)$') AS rest
    FROM pairs AS p
    JOIN pg_index AS i ON i.indrelid = p.former AND i.indisvalid AND NOT i.indisunique
    JOIN pg_class AS x ON x.oid = i.indexrelid
)
SELECT d.other_name AS table, n.name, d.rest,
    to_regclass(format('embedfleet.%%I', n.name)) IS NOT NULL AS stale
FROM defined AS d
CROSS JOIN LATERAL (
    SELECT left(replace(d.name, d.former_name, d.other_name), 63)
        || CASE WHEN position(d.former_name IN d.name) = 0 THEN d.other_name ELSE '' END AS name
) AS n
WHERE NOT EXISTS (
    SELECT
    FROM pg_index AS i
    WHERE i.indrelid = d.other AND i.indisvalid
        AND substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)$') = d.rest
)
ORDER BY n.name;

-- name: create_index
CREATE INDEX CONCURRENTLY {index} ON embedfleet.{table} {rest};

-- name: lacking_statistics
-- The same of extended statistics, which an index on numbers brings.
SELECT p.other AS table, replace(s.stxname, c.relname, p.other) AS name,
    substring(pg_get_statisticsobjdef(s.oid) FROM ' (ON .*) FROM [^ ]+$') AS rest
FROM unnest(%(former)s::text[], %(other)s::text[]) AS p (former, other)
JOIN pg_class AS c ON c.relnamespace = 'embedfleet'::regnamespace AND c.relname = p.former
JOIN pg_statistic_ext AS s ON s.stxrelid = c.oid
WHERE s.stxname LIKE c.relname || '%%'
ORDER BY name;

-- name: create_statistics
CREATE STATISTICS IF NOT EXISTS embedfleet.{name} {rest} FROM embedfleet.{table};

-- name: copy_columns
-- The columns of the metadata that its view shows, in their order.
INSERT INTO embedfleet.collection_column (collection_id, name, field, type)
SELECT %(other_id)s, name, field, type
FROM embedfleet.collection_column
WHERE collection_id = %(collection_id)s
ORDER BY id;

-- name: copy_settings
-- How its index is searched, for another collection.
INSERT INTO embedfleet.collection_index (collection_id, ef_search, probes, policy)
SELECT %(other_id)s, ef_search, probes, policy
FROM embedfleet.collection_index
WHERE collection_id = %(collection_id)s
ON CONFLICT DO NOTHING;
