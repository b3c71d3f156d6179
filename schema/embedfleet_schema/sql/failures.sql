-- name: list
-- Newest first: texts that cannot be embedded with the documents they stand in, and documents
-- that were not accepted.
SELECT f.code, f.reason, f.attempts, f.job_id, f.created_at,
    coalesce(f.document_key, d.key) AS document, c.position,
    coalesce(f.source, d.source) AS source
FROM embedfleet.failure AS f
LEFT JOIN LATERAL (
    SELECT document_id, position
    FROM embedfleet.{chunks}
    WHERE text_id = f.text_id
    ORDER BY id
    LIMIT 1
) AS c ON true
LEFT JOIN embedfleet.{documents} AS d ON d.id = c.document_id
WHERE f.collection_id = %(collection_id)s
    AND (%(job_id)s::bigint IS NULL OR f.job_id = %(job_id)s)
ORDER BY f.id DESC
LIMIT %(limit)s;

-- name: next_failed
-- The last of a page of failed texts.
SELECT max(text_id)
FROM (
    SELECT text_id
    FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s AND text_id > %(after)s AND attempts > 0
        AND (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s)
    ORDER BY text_id
    LIMIT %(limit)s
) AS page;

-- name: to_retry
-- Failed texts of a range of numbers that are to be tried again; one in an open batch is being tried
-- already. A failure stands until its text has a vector or a new verdict: so nothing is lost with a
-- cancelled job. What was refused before anyone tried (no attempts) would be refused again.
WITH expected AS (
    SELECT t.id AS text_id, t.tokens
    FROM embedfleet.failure AS f
    JOIN embedfleet.{texts} AS t ON t.id = f.text_id
    WHERE f.collection_id = %(collection_id)s AND f.attempts > 0
        AND f.text_id > %(after)s AND f.text_id <= %(until)s
        AND (%(job_id)s::bigint IS NULL OR f.job_id = %(job_id)s)
), {judged}
SELECT text_id, tokens FROM judged WHERE NOT (stored OR open);
