-- name: speed_of
-- A part of others: tokens per second of the job `j`, while any of its batches was under way: all
-- workers together, over its newest thousand, and how many those are. The first batch of a process
-- loads the model, and says nothing of the speed; nor do the hours that provider batches wait.
SELECT max(w.tokens) / sum(extract(epoch FROM upper(b.span) - lower(b.span)))::float8 AS speed,
    max(w.batches) AS batches
FROM (
    SELECT sum(tokens) AS tokens, range_agg(tstzrange(leased_at, finished_at)) AS busy,
        count(*) AS batches
    FROM (
        SELECT n.tokens, n.leased_at, n.finished_at,
            row_number() OVER (PARTITION BY n.owner ORDER BY n.leased_at, n.id) > 1 AS warm
        FROM (
            SELECT d.id, d.owner, d.tokens, d.leased_at, d.finished_at
            FROM embedfleet.batch AS d
            WHERE d.job_id = j.id AND d.finished_at IS NOT NULL AND d.state = 'done'
                AND d.delivery = 'direct' AND d.leased_at < d.finished_at
            ORDER BY d.finished_at DESC
            LIMIT 1000
        ) AS n
    ) AS m
    WHERE warm
) AS w
CROSS JOIN LATERAL unnest(w.busy) AS b (span)

-- name: finished
-- A page of batches that finished some time ago, the oldest of each job first. Jobs are found one after
-- the other in the index. What a provider batch has stays until that has ended: its cost is
-- entered by them.
WITH RECURSIVE ended AS (
    (
        SELECT job_id FROM embedfleet.batch WHERE finished_at IS NOT NULL ORDER BY job_id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT b.job_id
        FROM embedfleet.batch AS b
        WHERE b.finished_at IS NOT NULL AND b.job_id > e.job_id
        ORDER BY b.job_id
        LIMIT 1
    )
    FROM ended AS e
    WHERE e.job_id IS NOT NULL
)
SELECT b.id, b.job_id
FROM ended AS e
CROSS JOIN LATERAL (
    SELECT f.id, f.job_id
    FROM embedfleet.batch AS f
    WHERE f.job_id = e.job_id AND f.finished_at < now() - make_interval(secs => %(kept_s)s)
        AND NOT EXISTS (
            SELECT FROM embedfleet.provider_batch AS l
            WHERE l.id = f.provider_batch_id AND l.state IN ('filing', 'filed')
        )
    ORDER BY f.finished_at
    LIMIT %(limit)s
) AS b
LIMIT %(limit)s;

-- name: remember_speed
-- How fast jobs went, before the batches that tell it are removed. A full thousand says it best.
INSERT INTO embedfleet.job_counter AS k (job_id, delivery, tokens_per_second)
SELECT j.id, 'direct', s.speed
FROM embedfleet.job AS j
CROSS JOIN LATERAL (
    {speed_of}
) AS s
LEFT JOIN embedfleet.job_counter AS r ON r.job_id = j.id AND r.delivery = 'direct'
WHERE j.id = ANY (%(jobs)s::bigint[]) AND s.speed IS NOT NULL
    AND (s.batches >= 900 OR r.tokens_per_second IS NULL)
ON CONFLICT (job_id, delivery) DO UPDATE SET tokens_per_second = excluded.tokens_per_second;

-- name: remove_batches
-- Their counts stay with their job.
WITH gone AS (
    DELETE FROM embedfleet.batch
    WHERE id = ANY (%(ids)s::bigint[]) AND finished_at IS NOT NULL
    RETURNING job_id, delivery, state, chunks, stored
)
INSERT INTO embedfleet.job_counter AS k (job_id, delivery, removed_embedded, removed_failed)
SELECT job_id, delivery, sum(CASE state WHEN 'done' THEN chunks ELSE stored END),
    sum(CASE state WHEN 'dead' THEN chunks - stored ELSE 0 END)
FROM gone
GROUP BY job_id, delivery
ORDER BY job_id, delivery
ON CONFLICT (job_id, delivery) DO UPDATE
SET removed_embedded = k.removed_embedded + excluded.removed_embedded,
    removed_failed = k.removed_failed + excluded.removed_failed;

-- name: remove_jobs
-- A page of jobs that ended long ago: cancelled, or handed over as far as that came, with nothing open
-- and nothing done since. A producer that is only frozen may go on with what seems interrupted: then it
-- finds no job. What it embedded keeps its number, so documents can still be deleted by it.
DELETE FROM embedfleet.job
WHERE id = ANY (ARRAY(
    SELECT j.id
    FROM embedfleet.job AS j
    WHERE greatest(j.created_at, j.loaded_at, j.interrupted_at, j.cancelled_at,
            CASE WHEN j.loaded_at IS NULL THEN j.loading_until END)
            < now() - make_interval(days => %(days)s)
        AND NOT EXISTS (
            SELECT FROM embedfleet.batch AS b
            WHERE b.job_id = j.id
                AND (
                    b.state IN ('pending', 'held', 'leased')
                    OR b.finished_at >= now() - make_interval(days => %(days)s)
                )
        )
        AND NOT EXISTS (SELECT FROM embedfleet.awaited_batch AS a WHERE a.job_id = j.id)
        AND NOT EXISTS (
            SELECT FROM embedfleet.job_counter AS k
            WHERE k.job_id = j.id AND k.finished_at >= now() - make_interval(days => %(days)s)
        )
    ORDER BY j.id
    LIMIT %(limit)s
));

-- name: remove_provider_batches
-- A page of those that ended long ago, and that no batch names any more: one that was given back and
-- waits since then keeps the row that it was filed in.
DELETE FROM embedfleet.provider_batch
WHERE id = ANY (ARRAY(
    SELECT p.id
    FROM embedfleet.provider_batch AS p
    WHERE p.finished_at < now() - make_interval(days => %(days)s)
        AND NOT EXISTS (SELECT FROM embedfleet.batch AS b WHERE b.provider_batch_id = p.id)
    ORDER BY p.id
    LIMIT %(limit)s
));

-- name: remove_shares
-- A page of shares that nobody used for so long; the furthest of each queue and lane says where the
-- next ones start.
DELETE FROM embedfleet.tenant_share
WHERE (space_id, queue, priority, tenant) IN (
    SELECT s.space_id, s.queue, s.priority, s.tenant
    FROM embedfleet.tenant_share AS s
    WHERE s.used_at < now() - make_interval(days => %(days)s)
        AND EXISTS (
            SELECT
            FROM embedfleet.tenant_share AS f
            WHERE f.space_id = s.space_id AND f.queue = s.queue AND f.priority = s.priority
                AND f.finish_tag > s.finish_tag
        )
        AND NOT EXISTS (
            SELECT
            FROM embedfleet.batch AS b
            WHERE b.space_id = s.space_id AND b.queue = s.queue AND b.priority = s.priority
                AND b.state = 'pending' AND b.delivery = 'direct'
        )
    LIMIT %(limit)s
);
