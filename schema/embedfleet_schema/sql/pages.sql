-- name: minutes
-- What was finished in each minute of the last hour, of all jobs or of one: so long finished batches
-- are kept. Jobs are found one after the other in the index.
WITH RECURSIVE ended AS (
    (
        SELECT job_id
        FROM embedfleet.batch
        WHERE finished_at IS NOT NULL AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
        ORDER BY job_id
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT b.job_id
        FROM embedfleet.batch AS b
        WHERE b.finished_at IS NOT NULL AND b.job_id > e.job_id AND %(job_id)s::bigint IS NULL
        ORDER BY b.job_id
        LIMIT 1
    )
    FROM ended AS e
    WHERE e.job_id IS NOT NULL
)
SELECT b.ago, count(*) FILTER (WHERE b.state = 'done') AS batches,
    sum(CASE b.state WHEN 'done' THEN b.chunks ELSE b.stored END)::bigint AS embedded,
    coalesce(sum(b.tokens) FILTER (WHERE b.state = 'done'), 0)::bigint AS tokens,
    coalesce(sum(b.chunks - b.stored) FILTER (WHERE b.state = 'dead'), 0)::bigint AS failed
FROM ended AS e
CROSS JOIN LATERAL (
    SELECT f.state, f.chunks, f.stored, f.tokens,
        floor(extract(epoch FROM now() - f.finished_at) / 60)::int AS ago
    FROM embedfleet.batch AS f
    WHERE f.job_id = e.job_id AND f.finished_at <= now()
        AND f.finished_at > now() - make_interval(mins => %(minutes)s)
) AS b
GROUP BY b.ago;

-- name: jobs
-- A page of jobs, the newest first.
SELECT id
FROM embedfleet.job
WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
    AND (%(collection_id)s::bigint IS NULL OR collection_id = %(collection_id)s)
ORDER BY id DESC
LIMIT %(limit)s;

-- name: collections
-- A page of collections by name, with what their counters say.
SELECT c.id, c.name, s.provider || '/' || s.model AS model, c.queue, c.created_at,
    coalesce(k.documents, 0) AS documents, coalesce(k.live_documents, 0) AS live_documents,
    coalesce(k.chunks, 0) AS chunks, coalesce(k.vectors, 0) AS vectors,
    coalesce(k.failures, 0) AS failures
FROM embedfleet.collection AS c
JOIN embedfleet.space AS s ON s.id = c.space_id
LEFT JOIN (
    {of_collections}
) AS k ON k.collection_id = c.id
WHERE c.name > %(after)s AND strpos(c.name, %(part)s) > 0
ORDER BY c.name
LIMIT %(limit)s;

-- name: failing
-- The same of those that have failures, the most first.
SELECT c.id, c.name, s.provider || '/' || s.model AS model, c.queue, c.created_at,
    k.documents, k.live_documents, k.chunks, k.vectors, k.failures
FROM (
    {of_collections}
) AS k
JOIN embedfleet.collection AS c ON c.id = k.collection_id
JOIN embedfleet.space AS s ON s.id = c.space_id
WHERE k.failures > 0
ORDER BY k.failures DESC, c.name
LIMIT %(limit)s;

-- name: codes
-- Of the newest failures of a collection, how many there are of each code, and one reason of each.
SELECT code, count(*) AS failures, count(*) FILTER (WHERE attempts > 0) AS tried,
    min(reason) AS reason
FROM (
    SELECT code, attempts, reason
    FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s
    ORDER BY id DESC
    LIMIT %(limit)s
) AS newest
GROUP BY code
ORDER BY failures DESC, code;

-- name: holds
-- A part of the statement that looks for a key in several collections.
(
    SELECT {name} AS collection, key, live_version IS NOT NULL AS searchable
    FROM embedfleet.{documents}
    WHERE {condition}
    ORDER BY key
    LIMIT %(limit)s
)

-- name: is_key
-- A part of it: the key in either spelling.
key = ANY (%(keys)s)

-- name: rejected
-- Where documents of this key were not accepted.
SELECT DISTINCT c.name AS collection, f.document_key AS key, false AS searchable
FROM embedfleet.failure AS f
JOIN embedfleet.collection AS c ON c.id = f.collection_id
WHERE f.collection_id = ANY (%(collections)s::bigint[]) AND f.document_key = ANY (%(keys)s);

-- name: chunks
-- The first chunks that readers see of a document.
SELECT position, content, metadata
FROM embedfleet.{view}
WHERE document = %(key)s
ORDER BY position
LIMIT %(limit)s;
