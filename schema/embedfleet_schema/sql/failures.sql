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
    WHERE sha256 = f.sha256
    ORDER BY id
    LIMIT 1
) AS c ON true
LEFT JOIN embedfleet.{documents} AS d ON d.id = c.document_id
WHERE f.collection_id = %(collection_id)s
    AND (%(job_id)s::bigint IS NULL OR f.job_id = %(job_id)s)
ORDER BY f.id DESC
LIMIT %(limit)s;

-- name: to_retry
-- Failed texts that are to be tried again; one in an open batch is being tried already. A failure
-- stands until its text has a vector or a new verdict: so nothing is lost with a cancelled job.
-- What was refused before anyone tried (no attempts) would be refused again.
WITH expected AS (
    SELECT DISTINCT ON (c.sha256) c.sha256, c.tokens
    FROM embedfleet.failure AS f
    JOIN embedfleet.{chunks} AS c USING (sha256)
    WHERE f.collection_id = %(collection_id)s AND f.attempts > 0
        AND (%(job_id)s::bigint IS NULL OR f.job_id = %(job_id)s)
), {judged}
SELECT sha256, tokens FROM judged WHERE NOT (stored OR open);
