-- name: known_digests
-- What the collection already holds under these keys, whether readers see it, whose it is and where
-- it came from.
SELECT key, digest, live_version IS NOT DISTINCT FROM version AS live, job_id, source
FROM embedfleet.{documents}
WHERE key = ANY (%(keys)s);

-- name: newest_versions
SELECT key, version FROM embedfleet.{documents} WHERE key = ANY (%(keys)s) AND digest <> '';

-- name: forget_digests
-- Of documents that are to be read again: no document has such a digest, so they have changed. The object
-- that one came from is not known any more (see `unchanged` of objects).
UPDATE embedfleet.{documents} SET digest = '\x00' WHERE key = ANY (%(keys)s) AND digest <> '';

-- name: copy_chunks
COPY {incoming_chunk}
    (document_id, version, position, start_offset, end_offset, text_id, metadata)
FROM STDIN (FORMAT BINARY);

-- name: lock_documents
-- Rows that exist are locked in id order, as commits lock them.
SELECT id
FROM embedfleet.{documents}
WHERE key = ANY (%(keys)s)
ORDER BY id
FOR UPDATE;

-- name: merge_documents
-- A new version of each document; the live one stays until the new one is whole. A key that another
-- source took since it was looked up is left alone. The time is that of this statement, not of the
-- transaction: a mirror that began before it keeps the document.
INSERT INTO embedfleet.{documents} AS d (key, digest, version, job_id, source, updated_at)
SELECT u.key, u.digest, 1, %(job_id)s, u.source, statement_timestamp()
FROM unnest(%(keys)s::text[], %(digests)s::bytea[], %(sources)s::text[]) AS u (key, digest, source)
ORDER BY u.key
ON CONFLICT (key) DO UPDATE
SET digest = excluded.digest, version = d.version + 1, job_id = excluded.job_id,
    updated_at = excluded.updated_at, source = excluded.source, kept = NULL
WHERE %(replace)s OR d.digest = excluded.digest OR d.source = excluded.source
    OR d.source IS NULL OR excluded.source IS NULL
RETURNING key, id, version, live_version;

-- name: set_sources
-- Documents that are as they were, with the source that nobody had named.
UPDATE embedfleet.{documents} AS d
SET source = s.source
FROM unnest(%(keys)s::text[], %(sources)s::text[]) AS s (key, source)
WHERE d.key = s.key AND (d.source IS NULL OR %(replace)s);

-- name: keep_chunks
-- Chunks that the new version of a document has too, with position, offsets, text and metadata, stay as
-- they are: those of the version that readers see, and of a draft. Their numbers become ranges of the
-- document, and they leave the window. A range ends where a chunk of the document does not stay. Of
-- many ranges only the longest count, because who reads a chunk looks into them. Windows instead of
-- joins: a planner that knows nothing of the temporary table might compare all with all.
WITH former AS (
    SELECT d.id AS document_id, c.position, c.start_offset, c.end_offset, c.text_id, c.metadata, c.id
    FROM unnest(%(documents)s::bigint[]) AS d (id)
    CROSS JOIN LATERAL (
        SELECT * FROM embedfleet.{chunks} WHERE document_id = d.id OFFSET 0
    ) AS c
), compared AS (
    SELECT document_id, id, max(place) OVER same AS place,
        max(place) OVER same IS NOT NULL AND id = max(id) OVER same AS stays
    FROM (
        SELECT *, NULL::tid AS place FROM former
        UNION ALL
        SELECT document_id, position, start_offset, end_offset, text_id, metadata, NULL, ctid
        FROM {incoming_chunk}
        WHERE version > 1
    ) AS each
    WINDOW same AS (
        PARTITION BY document_id, position, start_offset, end_offset, text_id, metadata
    )
), numbered AS (
    SELECT document_id, id, place, stays, count(*) FILTER (WHERE NOT stays) OVER (
        PARTITION BY document_id ORDER BY id
    ) AS run
    FROM compared
    WHERE id IS NOT NULL
), measured AS (
    SELECT document_id, id, place, run,
        count(*) OVER (PARTITION BY document_id, run) AS length
    FROM numbered
    WHERE stays
), ranked AS (
    SELECT document_id, id, place, run, dense_rank() OVER (
        PARTITION BY document_id ORDER BY length DESC, run
    ) AS rank
    FROM measured
), kept AS MATERIALIZED (
    SELECT document_id, id, place, run FROM ranked WHERE rank <= %(most)s
), left_out AS (
    DELETE FROM {incoming_chunk} AS i USING kept AS k WHERE i.ctid = k.place
)
UPDATE embedfleet.{documents} AS d
SET kept = r.ranges
FROM (
    SELECT document_id, range_agg(numbers) AS ranges
    FROM (
        SELECT document_id, int8range(min(id), max(id), '[]') AS numbers
        FROM kept
        GROUP BY document_id, run
    ) AS runs
    GROUP BY document_id
) AS r
WHERE d.id = r.document_id;

-- name: merge_chunks
INSERT INTO embedfleet.{chunks}
    (document_id, version, position, start_offset, end_offset, text_id, metadata)
SELECT document_id, version, position, start_offset, end_offset, text_id, metadata
FROM {incoming_chunk}
ORDER BY document_id, position;

-- name: fail_texts
-- Failures of texts that no worker will see, sorted as everywhere.
WITH judged AS (
    INSERT INTO embedfleet.failure (collection_id, text_id, code, reason, job_id)
    SELECT %(collection_id)s, u.text_id, u.code, u.reason, %(job_id)s
    FROM unnest(%(texts)s::bigint[], %(codes)s::text[], %(reasons)s::text[])
        AS u (text_id, code, reason)
    ORDER BY u.text_id
    ON CONFLICT (collection_id, text_id) DO UPDATE
    SET code = excluded.code, reason = excluded.reason, attempts = 0, job_id = excluded.job_id,
        retried_by = NULL, created_at = now()
    RETURNING collection_id, {is_new} AS is_new
)
{count_failures};

-- name: retry_failures
-- Texts that this job tries again. Their failures stand until they have a vector or a new verdict:
-- so they are not lost with a job that is cancelled.
UPDATE embedfleet.failure
SET retried_by = %(job_id)s
WHERE collection_id = %(collection_id)s AND text_id = ANY (%(texts)s::bigint[]);

-- name: forget_rejections
-- Of documents that are accepted now.
WITH gone AS (
    DELETE FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s AND document_key = ANY (%(keys)s)
    RETURNING collection_id
)
{count_forgotten};

-- name: reject
-- The latest verdicts on documents that were not accepted. Sorted, so that two producers rejecting the
-- same keys cannot deadlock.
WITH judged AS (
    INSERT INTO embedfleet.failure (collection_id, document_key, code, reason, job_id, source)
    SELECT %(collection_id)s, u.key, u.code, u.reason, %(job_id)s, u.source
    FROM unnest(%(keys)s::text[], %(codes)s::text[], %(reasons)s::text[], %(sources)s::text[])
        AS u (key, code, reason, source)
    ORDER BY u.key
    ON CONFLICT (collection_id, document_key) DO UPDATE
    SET code = excluded.code, reason = excluded.reason, job_id = excluded.job_id,
        source = excluded.source, created_at = now()
    RETURNING collection_id, {is_new} AS is_new
)
{count_failures};

-- name: rejected_sources
-- Where documents lie that were not accepted.
SELECT DISTINCT source
FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND document_key IS NOT NULL AND source IS NOT NULL;

-- name: forget_sources
-- Verdicts of older jobs on what lies in these sources, which were read to their end: what is still
-- wrong there has a verdict of this job. Locked in one order, as everywhere.
WITH gone AS (
    DELETE FROM embedfleet.failure
    WHERE id IN (
        SELECT id
        FROM embedfleet.failure
        WHERE collection_id = %(collection_id)s AND document_key IS NOT NULL
            AND source = ANY (%(sources)s) AND job_id < %(job_id)s
        ORDER BY document_key
        FOR UPDATE
    )
    RETURNING collection_id
)
{count_forgotten};
