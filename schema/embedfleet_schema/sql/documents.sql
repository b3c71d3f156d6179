-- name: lock_waiting
-- Documents that wait for one of these texts, locked in one order everywhere.
SELECT d.id, d.live_version
FROM embedfleet.{documents} AS d
WHERE d.live_version IS DISTINCT FROM d.version
    AND d.id IN (
        SELECT c.document_id
        FROM embedfleet.{chunks} AS c
        WHERE c.text_id = ANY (%(texts)s::bigint[])
    )
ORDER BY d.id
FOR UPDATE;

-- name: go_live
-- A document goes live whole: each chunk of its newest version has a vector or a failure. A failure
-- whose text another job tries anew does not count, unless that job was cancelled. That is asked by
-- a scalar subquery, so that a planner does not join the failures with all jobs. Those that were never
-- live before are `new`.
WITH live AS (
    UPDATE embedfleet.{documents} AS d
    SET live_version = d.version, live_kept = d.kept
    WHERE d.id = ANY (%(documents)s)
        AND d.live_version IS DISTINCT FROM d.version
        AND NOT EXISTS (
            SELECT
            FROM embedfleet.{chunks} AS c
            WHERE c.document_id = d.id AND {in_newest}
                AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = c.text_id)
                AND NOT EXISTS (
                    SELECT FROM embedfleet.failure AS f
                    WHERE f.collection_id = %(collection_id)s AND f.text_id = c.text_id
                        AND coalesce((
                            SELECT j.cancelled_at IS NOT NULL
                            FROM embedfleet.job AS j
                            WHERE j.id = f.retried_by
                        ), true)
                )
        )
    RETURNING d.id
), counted AS (
    INSERT INTO embedfleet.counter_delta (collection_id, live_documents)
    SELECT %(collection_id)s, count(*)
    FROM live
    WHERE id = ANY (%(new)s::bigint[])
    HAVING count(*) > 0
)
SELECT id FROM live;

-- name: remove_superseded
-- A page of chunks that no reader sees any more: older than the live version, or abandoned on the way.
WITH gone AS (
    DELETE FROM embedfleet.{chunks}
    WHERE id = ANY (ARRAY(
        SELECT c.id
        FROM embedfleet.{documents} AS d
        JOIN embedfleet.{chunks} AS c ON c.document_id = d.id
        WHERE d.id = ANY (%(documents)s::bigint[])
            AND ({in_newest} OR {in_live}) IS NOT TRUE
        LIMIT %(limit)s
    ))
    RETURNING text_id
), counted AS (
    INSERT INTO embedfleet.counter_delta (collection_id, chunks)
    SELECT %(collection_id)s, -count(*) FROM gone HAVING count(*) > 0
)
SELECT text_id FROM gone;

-- name: remove_unused_vectors
WITH gone AS (
    DELETE FROM embedfleet.{vectors} AS v
    WHERE v.text_id = ANY (%(texts)s::bigint[])
        AND NOT EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = v.text_id)
    RETURNING v.text_id
)
INSERT INTO embedfleet.counter_delta (collection_id, vectors)
SELECT %(collection_id)s, -count(*) FROM gone HAVING count(*) > 0;

-- name: remove_unused_texts
DELETE FROM embedfleet.{texts} AS t
WHERE t.id = ANY (%(texts)s::bigint[])
    AND NOT EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id);

-- name: remove_unused_failures
WITH gone AS (
    DELETE FROM embedfleet.failure AS f
    WHERE f.collection_id = %(collection_id)s AND f.text_id = ANY (%(texts)s::bigint[])
        AND NOT EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = f.text_id)
    RETURNING f.collection_id
)
{count_forgotten};

-- name: weigh
-- How many chunks the documents of some keys have in the versions that count, and whether a removal
-- of theirs was cut off. The last position tells, where no version keeps chunks of former ones.
SELECT d.key, d.digest = '' AS hidden, CASE WHEN d.kept IS NULL AND d.live_kept IS NULL THEN (
    SELECT coalesce(sum(last.position + 1), 0)
    FROM (VALUES (d.version), (nullif(d.live_version, d.version))) AS v (number)
    CROSS JOIN LATERAL (
        SELECT max(position) AS position
        FROM embedfleet.{chunks}
        WHERE document_id = d.id AND version = v.number
    ) AS last
) ELSE (
    SELECT count(*) FROM embedfleet.{chunks} WHERE document_id = d.id
) END::bigint AS chunks
FROM embedfleet.{documents} AS d
WHERE d.key = ANY (%(keys)s);

-- name: hide_documents
-- Readers see none of their chunks any more, and no text is taken for theirs.
WITH hidden AS (
    UPDATE embedfleet.{documents} AS d
    SET version = d.version + 1, live_version = d.version + 1, digest = '', kept = NULL,
        live_kept = NULL
    FROM (
        SELECT id, live_version IS NULL AS new
        FROM embedfleet.{documents} AS d
        WHERE key = ANY (%(keys)s)
            AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
            AND (%(since)s::timestamptz IS NULL OR {unseen})
        FOR UPDATE
    ) AS w
    WHERE d.id = w.id
    RETURNING d.id, w.new
), counted AS (
    INSERT INTO embedfleet.counter_delta (collection_id, live_documents)
    SELECT %(collection_id)s, count(*) FROM hidden WHERE new HAVING count(*) > 0
)
SELECT id FROM hidden;

-- name: remove_hidden
-- Not one that was stored anew meanwhile.
WITH gone AS (
    DELETE FROM embedfleet.{documents}
    WHERE id = ANY (%(documents)s::bigint[]) AND digest = ''
    RETURNING key
), counted AS (
    INSERT INTO embedfleet.counter_delta (collection_id, documents, live_documents)
    SELECT %(collection_id)s, -count(*), -count(*) FROM gone HAVING count(*) > 0
)
SELECT key FROM gone;

-- name: remove_documents
-- Returns the texts of the chunks that the cascade takes along.
WITH gone AS (
    DELETE FROM embedfleet.{documents} AS d
    WHERE key = ANY (%(keys)s)
        AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
        AND (%(since)s::timestamptz IS NULL OR {unseen})
    RETURNING id, key, live_version
), parts AS (
    SELECT g.key, c.text_id
    FROM gone AS g
    LEFT JOIN embedfleet.{chunks} AS c ON c.document_id = g.id
), counted AS (
    INSERT INTO embedfleet.counter_delta (collection_id, documents, live_documents, chunks)
    SELECT %(collection_id)s, -count(*), -count(live_version), -(SELECT count(text_id) FROM parts)
    FROM gone
    HAVING count(*) > 0
)
SELECT key, text_id FROM parts;

-- name: remove_rejections
WITH gone AS (
    DELETE FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s AND document_key = ANY (%(keys)s)
        AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
    RETURNING collection_id, document_key
), counted AS (
    {count_forgotten}
)
SELECT document_key FROM gone;

-- name: held_keys
-- Those of some keys that have a document, or a verdict on one.
SELECT key FROM embedfleet.{documents} WHERE key = ANY (%(keys)s)
UNION
SELECT document_key
FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND document_key = ANY (%(keys)s);

-- name: begins
-- A part of `list` and `matching`.
starts_with({key}, {prefix});

-- name: list
-- A page of documents by key, after one that was seen; `live` where readers see the newest version.
SELECT d.key, d.source, c.chunks, d.live_version IS NOT DISTINCT FROM d.version AS live, d.updated_at
FROM (
    SELECT id, key, source, version, live_version, kept, updated_at
    FROM embedfleet.{documents}
    WHERE key > %(after)s AND {begins}
    ORDER BY key
    LIMIT %(limit)s
) AS d
CROSS JOIN LATERAL (
    SELECT (
        SELECT count(*)
        FROM embedfleet.{chunks}
        WHERE document_id = d.id AND version = d.version
    ) + CASE WHEN d.kept IS NULL THEN 0 ELSE (
        SELECT count(*) FROM embedfleet.{chunks} WHERE document_id = d.id AND id <@ d.kept
    ) END AS chunks
) AS c
ORDER BY d.key;

-- name: matching
-- A page of keys, in their order: documents whose newest version a job stored, whose keys begin
-- alike, or of which a chunk has some metadata; and what was rejected likewise, which has none.
(
    SELECT d.key
    FROM embedfleet.{documents} AS d
    WHERE d.key > %(after)s
        AND (%(job_id)s::bigint IS NULL OR d.job_id = %(job_id)s)
        AND {begins}{and_where}
    ORDER BY d.key
    LIMIT %(limit)s
)
UNION
(
    SELECT document_key
    FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s AND document_key > %(after)s
        AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
        AND {verdict_begins}
        AND NOT %(filtered)s
    ORDER BY document_key
    LIMIT %(limit)s
)
ORDER BY key
LIMIT %(limit)s;

-- name: has_metadata
-- A part of `matching`.
AND EXISTS (
    SELECT
    FROM (
        SELECT c.metadata, d.key AS document
        FROM embedfleet.{chunks} AS c
        WHERE c.document_id = d.id AND {in_newest}
    ) AS each_chunk
    WHERE {where}
);

-- name: clear_rejections
-- A page of verdicts on documents, and on nothing else: a chunk without a vector is live because its
-- failure says why. Locked in one order, as everywhere.
WITH gone AS (
    DELETE FROM embedfleet.failure
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM embedfleet.failure
        WHERE collection_id = %(collection_id)s AND document_key IS NOT NULL
        ORDER BY document_key
        LIMIT %(limit)s
        FOR UPDATE
    ))
    RETURNING collection_id
), counted AS (
    {count_forgotten}
)
SELECT count(*) AS cleared FROM gone;
