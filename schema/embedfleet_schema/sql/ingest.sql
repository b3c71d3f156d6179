-- name: create_incoming
-- Where a window lands by COPY before it is merged. Made anew and gone at the commit: behind a pooler
-- the session is another one each time, and what is left in it may be of another version of ours.
DROP TABLE IF EXISTS pg_temp.incoming_document, pg_temp.incoming_chunk;
CREATE TEMP TABLE incoming_document (
    key text NOT NULL, digest bytea NOT NULL, source text,
    id bigint, version int, live_version int, had_pending boolean
) ON COMMIT DROP;
CREATE TEMP TABLE incoming_chunk (
    key text NOT NULL, position int NOT NULL, start_offset int, end_offset int,
    tokens int NOT NULL, hash uuid NOT NULL, content text NOT NULL, metadata jsonb NOT NULL
) ON COMMIT DROP;

-- name: known_digests
-- What the collection already holds under these keys, whether readers see it, whose it is and where
-- it came from.
SELECT key, digest, live_version IS NOT DISTINCT FROM version AS live, job_id, source
FROM embedfleet.{documents}
WHERE key = ANY (%(keys)s);

-- name: copy_documents
COPY incoming_document (key, digest, source) FROM STDIN (FORMAT BINARY);

-- name: copy_chunks
COPY incoming_chunk (key, position, start_offset, end_offset, tokens, hash, content, metadata)
FROM STDIN (FORMAT BINARY);

-- name: lock_documents
-- Rows that exist are locked in id order, as commits lock them. By an array: a join with the
-- temporary table, which has no statistics, would read all documents.
SELECT id
FROM embedfleet.{documents}
WHERE key = ANY (%(keys)s)
ORDER BY id
FOR UPDATE;

-- name: merge_documents
-- A new version of each document; the live one stays until the new one is whole. A key that another
-- source took since it was looked up is left alone.
WITH merged AS (
    INSERT INTO embedfleet.{documents} AS d (key, digest, version, job_id, source)
    SELECT i.key, i.digest, 1, %(job_id)s, i.source
    FROM incoming_document AS i
    ORDER BY i.key
    ON CONFLICT (key) DO UPDATE
    SET digest = excluded.digest, version = d.version + 1, job_id = excluded.job_id,
        updated_at = now(), source = excluded.source
    WHERE %(replace)s OR d.digest = excluded.digest OR d.source = excluded.source
        OR d.source IS NULL OR excluded.source IS NULL
    RETURNING d.id, d.key, d.version, d.live_version
)
UPDATE incoming_document AS i
SET id = m.id,
    version = m.version,
    live_version = m.live_version,
    had_pending = m.version > 1 AND m.live_version IS DISTINCT FROM m.version - 1
FROM merged AS m
WHERE m.key = i.key;

-- name: set_sources
-- Documents that are as they were, with the source that nobody had named.
UPDATE embedfleet.{documents} AS d
SET source = s.source
FROM unnest(%(keys)s::text[], %(sources)s::text[]) AS s (key, source)
WHERE d.key = s.key AND (d.source IS NULL OR %(replace)s);

-- name: register
-- The texts of this window that the collection does not know yet get their numbers. Sorted, so that
-- two producers of the same texts cannot deadlock.
INSERT INTO embedfleet.{texts} (hash, tokens, content)
SELECT DISTINCT ON (hash) hash, tokens, content
FROM incoming_chunk
ORDER BY hash
ON CONFLICT (hash) DO NOTHING;

-- name: collisions
-- Documents with a text whose hash is that of another text. Here and below each hash is looked up: of
-- the temporary table a planner knows nothing, and may read all texts of the collection instead.
SELECT DISTINCT c.key
FROM incoming_chunk AS c
CROSS JOIN LATERAL (SELECT content FROM embedfleet.{texts} WHERE hash = c.hash OFFSET 0) AS t
WHERE t.content <> c.content
ORDER BY c.key;

-- name: merge_chunks
INSERT INTO embedfleet.{chunks}
    (document_id, version, position, start_offset, end_offset, text_id, metadata)
SELECT d.id, d.version, c.position, c.start_offset, c.end_offset, t.id, c.metadata
FROM incoming_chunk AS c
JOIN incoming_document AS d USING (key)
CROSS JOIN LATERAL (SELECT id FROM embedfleet.{texts} WHERE hash = c.hash OFFSET 0) AS t
ORDER BY d.id, c.position;

-- name: missing_incoming
-- Distinct texts of this window without a vector; an old failure of the same text is tried anew.
SELECT t.hash, t.id, t.tokens
FROM (SELECT DISTINCT hash FROM incoming_chunk) AS c
CROSS JOIN LATERAL (
    SELECT hash, id, tokens FROM embedfleet.{texts} WHERE hash = c.hash OFFSET 0
) AS t
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = t.id);

-- name: missing_waiting
-- Texts that unchanged documents still wait for: their batch may be held, cancelled or far back.
-- What was refused before anyone tried (no attempts) would be refused again.
SELECT DISTINCT t.hash, t.id, t.tokens
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND c.version = d.version
JOIN embedfleet.{texts} AS t ON t.id = c.text_id
WHERE d.key = ANY (%(keys)s)
    AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = c.text_id)
    AND NOT EXISTS (
        SELECT FROM embedfleet.failure AS f
        WHERE f.collection_id = %(collection_id)s AND f.text_id = c.text_id AND f.attempts = 0
    );

-- name: refuse_texts
-- Failures of texts that no worker will see, sorted as everywhere.
INSERT INTO embedfleet.failure (collection_id, text_id, code, reason, job_id)
SELECT %(collection_id)s, u.text_id, u.code, u.reason, %(job_id)s
FROM unnest(%(texts)s::bigint[], %(codes)s::text[], %(reasons)s::text[])
    AS u (text_id, code, reason)
ORDER BY u.text_id
ON CONFLICT (collection_id, text_id) DO UPDATE
SET code = excluded.code, reason = excluded.reason, attempts = 0, job_id = excluded.job_id,
    retried_by = NULL, created_at = now();

-- name: retry_failures
-- Texts that this job tries again. Their failures stand until they have a vector or a new verdict:
-- so they are not lost with a job that is cancelled.
UPDATE embedfleet.failure
SET retried_by = %(job_id)s
WHERE collection_id = %(collection_id)s AND text_id = ANY (%(texts)s::bigint[]);

-- name: forget_rejections
-- Of documents that are accepted now.
DELETE FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND document_key = ANY (%(keys)s);

-- name: incoming_documents
-- Every document of the window with its live version; the merge holds their rows.
SELECT id, key, had_pending, live_version FROM incoming_document ORDER BY id;

-- name: reject
-- The latest verdict on a document that was not accepted.
INSERT INTO embedfleet.failure (collection_id, document_key, code, reason, job_id, source)
VALUES (%(collection_id)s, %(key)s, %(code)s, %(reason)s, %(job_id)s, %(source)s)
ON CONFLICT (collection_id, document_key) DO UPDATE
SET code = excluded.code, reason = excluded.reason, job_id = excluded.job_id,
    source = excluded.source, created_at = now();

-- name: rejected_sources
-- Where documents lie that were not accepted.
SELECT DISTINCT source
FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND document_key IS NOT NULL AND source IS NOT NULL;

-- name: forget_sources
-- Verdicts of older jobs on what lies in these sources, which were read to their end: what is still
-- wrong there has a verdict of this job. Locked in one order, as everywhere.
DELETE FROM embedfleet.failure
WHERE id IN (
    SELECT id
    FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s AND document_key IS NOT NULL
        AND source = ANY (%(sources)s) AND job_id < %(job_id)s
    ORDER BY document_key
    FOR UPDATE
);
