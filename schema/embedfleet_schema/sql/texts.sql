-- name: still_without
-- Of texts that were found a while ago, those that are still used, have no vector yet, and that nobody
-- queued meanwhile.
SELECT u.text_id, u.tokens
FROM unnest(%(texts)s::bigint[], %(tokens)s::integer[]) AS u (text_id, tokens)
JOIN embedfleet.{texts} AS t ON t.id = u.text_id
LEFT JOIN embedfleet.batch AS b
    ON b.id = t.batch_id AND b.state IN ('pending', 'held', 'leased')
LEFT JOIN embedfleet.job AS j ON j.id = b.job_id
WHERE (b.id IS NULL OR b.state <> 'leased' AND j.cancelled_at IS NOT NULL)
    AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = u.text_id);

-- name: judged
-- Where texts stand. A part of other statements: what they put before it is called `expected` and has
-- one row per text_id. What waits for a job that was cancelled is not open: nobody takes it. What is
-- leased is still stored. Each row is followed by keys: a planner that misjudges a set of open texts
-- would compare all with all.
judged AS (
    SELECT e.*,
        v.text_id IS NOT NULL AS stored,
        b.id IS NOT NULL AND (b.state = 'leased' OR j.cancelled_at IS NULL) AS open,
        f.text_id IS NOT NULL AS failed
    FROM expected AS e
    LEFT JOIN embedfleet.{vectors} AS v ON v.text_id = e.text_id
    LEFT JOIN embedfleet.{texts} AS t ON t.id = e.text_id
    LEFT JOIN embedfleet.batch AS b
        ON b.id = t.batch_id AND b.state IN ('pending', 'held', 'leased')
    LEFT JOIN embedfleet.job AS j ON j.id = b.job_id
    LEFT JOIN embedfleet.failure AS f
        ON f.collection_id = %(collection_id)s AND f.text_id = e.text_id
)
