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
