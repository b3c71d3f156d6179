-- name: patience
-- A look never holds the fleet up, and never stays: it is cut off, and made again a little later.
SELECT set_config('statement_timeout', %(milliseconds)s, true), set_config('jit', 'off', true);

-- name: depth
-- What waits, by queue and lane, and how many jobs it is of, from the counters; what is leased is few,
-- and is counted.
SELECT o.queue, o.lane, o.chunks, o.tokens,
    greatest(0, o.open - o.held - coalesce(l.leased, 0)) AS pending, o.held,
    coalesce(l.leased, 0) AS leased, o.running
FROM (
    SELECT c.queue, j.lane, sum(k.open_batches)::bigint AS open, sum(k.held_batches)::bigint AS held,
        sum(k.queued)::bigint AS chunks, sum(k.tokens)::bigint AS tokens,
        count(DISTINCT j.id) FILTER (WHERE j.paused_at IS NULL AND j.cancelled_at IS NULL) AS running
    FROM (
        {of_jobs}
    ) AS k
    JOIN embedfleet.job AS j ON j.id = k.job_id
    JOIN embedfleet.collection AS c ON c.id = j.collection_id
    WHERE k.open_batches > 0
    GROUP BY c.queue, j.lane
) AS o
LEFT JOIN (
    SELECT b.queue, j.lane, count(*) AS leased
    FROM embedfleet.batch AS b
    JOIN embedfleet.job AS j ON j.id = b.job_id
    WHERE b.state = 'leased'
    GROUP BY b.queue, j.lane
) AS l USING (queue, lane);

-- name: oldest
-- How old the oldest is of the batches that come next. They are found in the index of the claims, in
-- whose order they stand, so a long backlog costs nothing.
SELECT q.queue, p.priority, coalesce(extract(epoch FROM now() - n.since), 0)::float8 AS seconds
FROM unnest(%(queues)s::text[]) AS q (queue)
CROSS JOIN unnest(%(priorities)s::smallint[]) AS p (priority)
CROSS JOIN LATERAL (
    SELECT min(created_at) AS since
    FROM (
        SELECT b.created_at
        FROM embedfleet.batch AS b
        WHERE b.state = 'pending' AND b.delivery = 'direct' AND b.queue = q.queue
            AND b.priority = p.priority
        ORDER BY b.start_tag, b.run_after, b.id
        LIMIT 500
    ) AS next
) AS n;

-- name: searchable
-- How long batches took from their making to their vectors, in the last 15 minutes: of each job that
-- ended batches since then, some.
WITH recent AS (
    SELECT c.queue, j.lane, extract(epoch FROM b.finished_at - b.created_at)::float8 AS seconds
    FROM (
        SELECT job_id FROM embedfleet.job_counter WHERE finished_at > now() - interval '15 minutes'
        UNION
        SELECT job_id FROM embedfleet.counter_delta WHERE finished_at > now() - interval '15 minutes'
    ) AS k
    JOIN embedfleet.job AS j ON j.id = k.job_id
    JOIN embedfleet.collection AS c ON c.id = j.collection_id
    CROSS JOIN LATERAL (
        SELECT b.created_at, b.finished_at
        FROM embedfleet.batch AS b
        WHERE b.job_id = k.job_id AND b.finished_at > now() - interval '15 minutes'
            AND b.state = 'done'
        ORDER BY b.finished_at DESC
        LIMIT 1000
    ) AS b
)
SELECT queue, lane, q.quantile, percentile_cont(q.quantile) WITHIN GROUP (ORDER BY seconds) AS seconds
FROM recent
CROSS JOIN unnest(%(quantiles)s::float8[]) AS q (quantile)
GROUP BY queue, lane, q.quantile;

-- name: workers
SELECT q.queue, count(w.id) AS alive, coalesce(sum(w.slots), 0)::bigint AS slots,
    count(w.reason) AS blocked
FROM unnest(%(queues)s::text[]) AS q (queue)
LEFT JOIN embedfleet.worker AS w ON q.queue = ANY (w.queues) AND {alive}
GROUP BY q.queue;

-- name: collections
SELECT c.name, coalesce(k.documents, 0) AS documents, coalesce(k.chunks, 0) AS chunks,
    coalesce(k.vectors, 0) AS vectors, coalesce(k.failures, 0) AS failures
FROM embedfleet.collection AS c
LEFT JOIN (
    {of_collections}
) AS k ON k.collection_id = c.id
ORDER BY c.name;

-- name: failures
SELECT code, count(*) AS failures
FROM (SELECT code FROM embedfleet.failure ORDER BY id DESC LIMIT 100000) AS newest
GROUP BY code;

-- name: standing_jobs
-- Jobs that a person or their budget paused; only the second gives a reason.
SELECT count(*) FILTER (WHERE pause_reason IS NULL) AS paused,
    count(*) FILTER (WHERE pause_reason IS NOT NULL) AS budget
FROM embedfleet.job
WHERE paused_at IS NOT NULL AND cancelled_at IS NULL;

-- name: spaces
SELECT provider || '/' || model AS space, coalesce(pause_code, 'person') AS code
FROM embedfleet.space
WHERE paused_at IS NOT NULL;

-- name: usage
SELECT s.provider || '/' || s.model AS model, sum(u.requests)::bigint AS requests,
    sum(u.tokens)::bigint AS tokens, coalesce(sum(u.usd), 0)::float8 AS usd
FROM embedfleet.usage AS u
JOIN embedfleet.space AS s ON s.id = u.space_id
WHERE u.day = (now() AT TIME ZONE 'UTC')::date
GROUP BY s.provider, s.model;

-- name: syncs
SELECT c.name, o.changes,
    coalesce(extract(epoch FROM clock_timestamp() - o.since), 0)::float8 AS lag_seconds,
    (s.problem IS NOT NULL)::int AS problem
FROM embedfleet.table_sync AS s
JOIN embedfleet.collection AS c ON c.id = s.collection_id
CROSS JOIN LATERAL (
    SELECT count(*) AS changes, min(changed_at) AS since
    FROM (
        SELECT changed_at
        FROM embedfleet.sync_outbox
        WHERE sync_id = s.id
        ORDER BY id
        LIMIT 10000
    ) AS oldest
) AS o;
