-- name: misplaced
-- Waiting batches that a pause, a resumption or a cancellation has not come to, with their
-- collections; the last are held, and a job that goes on waits for them. Jobs are compared as rows: a planner that is told `state = 'pending'` may expect many
-- and read the table. Of jobs whose batches are held, one after the other is found in the index.
WITH RECURSIVE holding AS (
    (SELECT job_id FROM embedfleet.batch WHERE state = 'held' ORDER BY job_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT b.job_id
        FROM embedfleet.batch AS b
        WHERE b.state = 'held' AND b.job_id > h.job_id
        ORDER BY b.job_id
        LIMIT 1
    )
    FROM holding AS h
    WHERE h.job_id IS NOT NULL
)
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
)
UNION
(
    SELECT b.id, b.collection_id
    FROM holding AS h
    JOIN embedfleet.batch_standing AS s USING (job_id)
    JOIN embedfleet.batch AS b ON b.state = 'held' AND b.job_id = s.job_id
    WHERE s.open
    LIMIT %(limit)s
)
UNION
(
    SELECT b.id, b.collection_id
    FROM embedfleet.job AS j
    JOIN embedfleet.awaited_batch AS a ON a.owner_id = j.id
    JOIN embedfleet.batch_standing AS s ON s.job_id = a.job_id
    JOIN embedfleet.batch AS b ON b.id = a.batch_id AND b.state = 'held'
    WHERE (j.paused_at IS NOT NULL OR j.cancelled_at IS NOT NULL) AND s.open
    LIMIT %(limit)s
);
