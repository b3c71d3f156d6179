-- name: one_snapshot
-- All that is said of a document is true at the same moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: document
-- Where a document stands: the chunks of its newest version by whether they have a vector.
SELECT d.id, d.version, d.live_version, d.job_id, d.source, j.cancelled_at IS NOT NULL AS cancelled,
    count(c.id) AS chunks,
    count(c.id) FILTER (WHERE v.text_id IS NOT NULL) AS stored
FROM embedfleet.{documents} AS d
LEFT JOIN embedfleet.job AS j ON j.id = d.job_id
LEFT JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_newest}
LEFT JOIN embedfleet.{vectors} AS v ON v.text_id = c.text_id
WHERE d.key = %(key)s
GROUP BY d.id, j.id;

-- name: rejection
-- The latest text under this key that was not accepted.
SELECT code, reason, source
FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND document_key = %(key)s;

-- name: failures
-- Chunks of the newest version that have a failure and no vector.
SELECT c.position, f.code, f.reason, f.attempts
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_newest}
JOIN embedfleet.failure AS f ON f.collection_id = %(collection_id)s AND f.text_id = c.text_id
WHERE d.id = %(document_id)s
    AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = c.text_id)
ORDER BY c.position;

-- name: batches
-- The open batches that hold texts which the newest version still lacks, the first to come first;
-- `ahead` counts the batches that are claimed before one that waits for a worker, up to a limit: the
-- first of them are to be said, and there may be many.
WITH missing AS MATERIALIZED (
    SELECT DISTINCT t.id AS text_id, t.batch_id
    FROM embedfleet.{documents} AS d
    JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_newest}
    JOIN embedfleet.{texts} AS t ON t.id = c.text_id
    WHERE d.id = %(document_id)s
        AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = c.text_id)
), open AS (
    SELECT b.id, count(*) AS texts
    FROM missing AS m
    JOIN embedfleet.batch AS b
        ON b.id = m.batch_id AND b.state IN ('pending', 'held', 'leased')
    JOIN embedfleet.job AS j ON j.id = b.job_id
    WHERE b.state = 'leased' OR j.cancelled_at IS NULL
    GROUP BY b.id
)
SELECT b.id, b.job_id, b.state, b.queue, b.delivery, o.texts, b.attempt, b.reason,
    j.paused_at IS NOT NULL AS job_paused,
    CASE WHEN b.run_after > now() THEN b.run_after END AS not_before,
    CASE WHEN b.state = 'leased' THEN extract(epoch FROM now() - b.leased_at)::float8 END
        AS leased_s,
    CASE WHEN b.state = 'leased' THEN b.lease_until END AS lease_until,
    CASE WHEN b.state = 'leased' AND b.delivery = 'provider_batch' THEN b.leased_at END AS filed_at,
    CASE WHEN b.state = 'leased' THEN w.hostname || ':' || w.pid END AS worker,
    CASE WHEN b.state = 'leased' THEN extract(epoch FROM now() - w.last_seen)::float8 END
        AS silent_s,
    coalesce({alive}, false) AS worker_alive,
    CASE WHEN b.state = 'pending' AND b.delivery = 'direct' THEN (
        SELECT count(*)
        FROM (
            SELECT
            FROM embedfleet.batch AS p
            WHERE p.state = 'pending' AND p.delivery = 'direct' AND p.queue = b.queue
                AND p.run_after <= now()
                AND (p.priority, p.start_tag, p.run_after, p.id)
                    < (b.priority, b.start_tag, b.run_after, b.id)
            LIMIT %(most_ahead)s
        ) AS earlier
    ) END AS ahead
FROM open AS o
JOIN embedfleet.batch AS b USING (id)
JOIN embedfleet.job AS j ON j.id = b.job_id
LEFT JOIN embedfleet.worker AS w ON w.id = b.owner
ORDER BY b.state = 'leased' DESC, b.state = 'pending' DESC, b.run_after, b.id;

-- name: uncovered
-- How many distinct texts have neither a vector nor a failure nor an open batch: nobody would ever
-- embed them.
WITH expected AS (
    SELECT DISTINCT c.text_id
    FROM embedfleet.{documents} AS d
    JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_newest}
    WHERE d.id = %(document_id)s
), {judged}
SELECT count(*) AS uncovered FROM judged WHERE NOT (stored OR open OR failed);
