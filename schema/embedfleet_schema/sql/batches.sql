-- name: smaller_later
-- Whether there is one that others hold, or that is not due yet.
SELECT EXISTS (
    SELECT
    FROM (
        SELECT texts
        FROM embedfleet.batch
        WHERE job_id = %(job_id)s AND state = 'pending' AND delivery = 'direct'
            AND queue = %(queue)s AND id <> ALL (%(tried)s::bigint[])
        ORDER BY tokens / chunks, id
        LIMIT 20
    ) AS s
    CROSS JOIN LATERAL unnest(s.texts) AS h (text_id)
    JOIN embedfleet.{texts} AS t ON t.id = h.text_id
    WHERE t.tokens <= %(most)s
) AS later;

-- name: missing_texts
-- Those of some texts that still lack a vector.
SELECT t.id, t.content, t.context, t.tokens
FROM unnest(%(texts)s::bigint[]) AS h (text_id)
JOIN embedfleet.{texts} AS t ON t.id = h.text_id
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = t.id);

-- name: obstacle
-- `stopped`: a pause or a cancellation has not come to the batch yet. `overlaps`: another worker is
-- just embedding some of its texts, because two jobs want the same ones. What is filed with a batch
-- API is not waited for: that may take a day.
SELECT CASE
    WHEN NOT s.open THEN 'stopped'
    WHEN EXISTS (
        SELECT
        FROM embedfleet.batch AS o
        CROSS JOIN LATERAL unnest(o.texts) AS h (text_id)
        WHERE o.state = 'leased' AND o.collection_id = s.collection_id AND o.id <> %(id)s
            AND o.delivery = 'direct'
            AND h.text_id IN (SELECT unnest(%(texts)s::bigint[]))
    )
    THEN 'overlaps'
END AS obstacle, s.has_budget
FROM embedfleet.batch_standing AS s
WHERE s.job_id = %(job_id)s;

-- name: taken
-- Those of some texts that other workers are just embedding.
SELECT h.text_id
FROM embedfleet.batch AS o
CROSS JOIN LATERAL unnest(o.texts) AS h (text_id)
WHERE o.state = 'leased' AND o.collection_id = %(collection_id)s AND o.delivery = 'direct'
    AND o.id <> ALL (%(ids)s::bigint[])
    AND h.text_id IN (SELECT unnest(%(texts)s::bigint[]));

-- name: heartbeat
-- Extend the leases that still stand; one that does not come back is lost. One that is just being
-- settled is passed over, so that a slow commit silences no other.
WITH mine AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS m (id, attempt)
), idle AS (
    SELECT b.id
    FROM mine
    JOIN embedfleet.batch AS b USING (id, attempt)
    WHERE b.state = 'leased'
    FOR NO KEY UPDATE OF b SKIP LOCKED
), beaten AS (
    UPDATE embedfleet.batch AS b
    SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
    FROM idle
    WHERE b.id = idle.id
)
SELECT b.id FROM mine JOIN embedfleet.batch AS b USING (id, attempt) WHERE b.state = 'leased';

-- name: has_budget
SELECT budget_usd IS NOT NULL AS has_budget FROM embedfleet.job WHERE id = %(job_id)s;

-- name: expired
-- Leases that ran out: their workers are dead, stopped or cut off. What is filed with a batch API is
-- its file's: the answers are paid for, and fetched even if no worker lived for days.
SELECT id, collection_id
FROM embedfleet.batch
WHERE state = 'leased' AND lease_until < now() AND delivery = 'direct'
ORDER BY lease_until
LIMIT 100;

-- name: charge_crash
UPDATE embedfleet.batch SET crashes = crashes + 1 WHERE id = %(id)s;

-- name: idle_slots
-- Per queue with live workers and runnable work: how many slots have nothing leased.
SELECT w.queue, w.slots - coalesce(l.leased, 0) AS idle
FROM (
    SELECT queue, sum(slots) AS slots
    FROM embedfleet.worker AS w CROSS JOIN LATERAL unnest(w.queues) AS queue
    WHERE {alive}
    GROUP BY queue
) AS w
LEFT JOIN (
    SELECT queue, count(*) AS leased
    FROM embedfleet.batch
    WHERE state = 'leased' AND delivery = 'direct'
    GROUP BY queue
) AS l ON l.queue = w.queue
WHERE EXISTS (
    SELECT FROM embedfleet.batch AS b
    WHERE b.queue = w.queue AND b.delivery = 'direct' AND b.state = 'pending'
        AND b.run_after <= now()
);

-- name: try_sweep_lock
SELECT pg_try_advisory_xact_lock(%(space)s, 0) AS mine;
