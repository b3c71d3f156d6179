-- name: misplaced
-- Waiting batches that a pause or a cancellation has not come to, with their collections. Jobs are
-- compared as rows: a planner that is told `state = 'pending'` may expect many and read the table.
(
    SELECT b.id, b.collection_id
    FROM embedfleet.job AS j
    JOIN embedfleet.batch AS b
        ON (b.job_id, b.state) >= (j.id, 'pending') AND (b.job_id, b.state) <= (j.id, 'pending')
    WHERE j.paused_at IS NOT NULL OR j.cancelled_at IS NOT NULL
    LIMIT %(limit)s
)
UNION
(
    SELECT b.id, b.collection_id
    FROM embedfleet.job AS j
    JOIN embedfleet.batch AS b
        ON (b.job_id, b.state) >= (j.id, 'held') AND (b.job_id, b.state) <= (j.id, 'held')
    WHERE j.cancelled_at IS NOT NULL
    LIMIT %(limit)s
)
UNION
(
    SELECT b.id, c.id
    FROM embedfleet.collection AS c
    CROSS JOIN LATERAL (
        SELECT id
        FROM embedfleet.batch
        WHERE collection_id = c.id AND state = 'pending'
        LIMIT %(limit)s
    ) AS b
    WHERE c.space_id IN (SELECT id FROM embedfleet.space WHERE paused_at IS NOT NULL)
    LIMIT %(limit)s
);

-- name: align
-- Some of them to where their job and space stand. One that is just being taken is passed over: of
-- two who wait for batches in different orders, each would wait for the other.
WITH misplaced AS (
    SELECT b.id, j.cancelled_at IS NOT NULL AS cancelled
    FROM embedfleet.batch AS b
    JOIN embedfleet.job AS j ON j.id = b.job_id
    JOIN embedfleet.collection AS c ON c.id = b.collection_id
    JOIN embedfleet.space AS s ON s.id = c.space_id
    WHERE b.id = ANY (%(ids)s::bigint[]) AND (
        b.state = 'pending'
        AND (j.cancelled_at IS NOT NULL OR j.paused_at IS NOT NULL OR s.paused_at IS NOT NULL)
        OR b.state = 'held' AND j.cancelled_at IS NOT NULL
    )
    FOR UPDATE OF b SKIP LOCKED
)
UPDATE embedfleet.batch AS b
SET state = CASE WHEN m.cancelled THEN 'cancelled' ELSE 'held' END,
    finished_at = CASE WHEN m.cancelled THEN now() END
FROM misplaced AS m
WHERE b.id = m.id;
