-- name: still_without
-- Of texts that were found a while ago, those that are still used and still have no vector.
SELECT u.sha256, u.tokens
FROM unnest(%(hashes)s::bytea[], %(tokens)s::integer[]) AS u (sha256, tokens)
WHERE EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.sha256 = u.sha256)
    AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.sha256 = u.sha256);

-- name: judged
-- Where texts stand. A part of other statements: what they put before it is called `expected` and has
-- one row per sha256. Joins, because a subquery per text would read every open batch each time. What
-- waits for a job that was cancelled is not open: nobody takes it. What is leased is still stored.
open_texts AS (
    SELECT DISTINCT h.sha256
    FROM embedfleet.batch AS b
    CROSS JOIN LATERAL unnest(b.hashes) AS h (sha256)
    JOIN expected USING (sha256)
    JOIN embedfleet.job AS j ON j.id = b.job_id
    WHERE b.collection_id = %(collection_id)s AND b.state IN ('pending', 'held', 'leased')
        AND (b.state = 'leased' OR j.cancelled_at IS NULL)
), judged AS (
    SELECT e.*,
        v.sha256 IS NOT NULL AS stored,
        o.sha256 IS NOT NULL AS open,
        f.sha256 IS NOT NULL AS failed
    FROM expected AS e
    LEFT JOIN embedfleet.{vectors} AS v ON v.sha256 = e.sha256
    LEFT JOIN open_texts AS o ON o.sha256 = e.sha256
    LEFT JOIN embedfleet.failure AS f
        ON f.collection_id = %(collection_id)s AND f.sha256 = e.sha256
)
