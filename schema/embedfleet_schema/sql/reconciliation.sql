-- name: to_align
-- Waiting batches that a pause, a resumption or a cancellation has not come to, with their
-- collections; the last are held, and a job that goes on waits for them. Jobs are compared as rows: a
-- planner that is told `state = 'pending'` may expect many and read the table. Of jobs whose batches are
-- held, one after the other is found in the index; of spaces that are paused, those batches in an order
-- that only their indexes have.
WITH RECURSIVE holding AS (
    (
        SELECT space_id, job_id
        FROM embedfleet.batch
        WHERE state = 'held'
        ORDER BY space_id, job_id
        LIMIT 1
    )
    UNION ALL
    SELECT n.space_id, n.job_id
    FROM holding AS h
    CROSS JOIN LATERAL (
        SELECT b.space_id, b.job_id
        FROM embedfleet.batch AS b
        WHERE b.state = 'held' AND (b.space_id, b.job_id) > (h.space_id, h.job_id)
        ORDER BY b.space_id, b.job_id
        LIMIT 1
    ) AS n
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
    SELECT b.id, b.collection_id
    FROM embedfleet.space AS s
    CROSS JOIN LATERAL (
        SELECT w.id, w.collection_id
        FROM embedfleet.batch AS w
        WHERE w.space_id = s.id AND w.state = 'pending' AND w.delivery = 'direct'
        ORDER BY w.space_id, w.queue, w.priority, w.start_tag, w.run_after, w.id
        LIMIT %(limit)s
    ) AS b
    WHERE s.paused_at IS NOT NULL
    LIMIT %(limit)s
)
UNION
(
    SELECT b.id, b.collection_id
    FROM embedfleet.space AS s
    CROSS JOIN LATERAL (
        SELECT w.id, w.collection_id
        FROM embedfleet.batch AS w
        WHERE w.space_id = s.id AND w.state = 'pending' AND w.delivery = 'provider_batch'
        ORDER BY w.space_id, w.priority, w.run_after, w.id
        LIMIT %(limit)s
    ) AS b
    WHERE s.paused_at IS NOT NULL
    LIMIT %(limit)s
)
UNION
(
    SELECT b.id, b.collection_id
    FROM holding AS h
    JOIN embedfleet.batch_standing AS s USING (job_id)
    JOIN embedfleet.batch AS b
        ON b.state = 'held' AND b.space_id = h.space_id AND b.job_id = s.job_id
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
