-- name: create
INSERT INTO embedfleet.job
    (collection_id, kind, budget_usd, delivery, tenant, lane, lane_by_size, traceparent,
        loading_until)
VALUES (%(collection_id)s, %(kind)s, %(budget_usd)s, %(delivery)s, %(tenant)s, %(lane)s,
    %(lane_by_size)s, %(traceparent)s, now() + make_interval(secs => %(loading_seconds)s))
RETURNING id;

-- name: count
UPDATE embedfleet.job
SET documents = documents + %(documents)s,
    unchanged = unchanged + %(unchanged)s,
    rejected = rejected + %(rejected)s,
    chunks = chunks + %(chunks)s,
    reused = reused + %(reused)s,
    failed = failed + %(failed)s,
    awaited = awaited + %(awaited)s
WHERE id = %(job_id)s;

-- name: loaded
UPDATE embedfleet.job SET loaded_at = now() WHERE id = %(job_id)s AND loaded_at IS NULL;

-- name: still_loading
-- Its producer lives. A job that was taken for interrupted meanwhile goes on with that.
UPDATE embedfleet.job
SET loading_until = now() + make_interval(secs => %(loading_seconds)s)
WHERE id = %(job_id)s AND loaded_at IS NULL;

-- name: interrupted
-- Its producer will hand over nothing more.
UPDATE embedfleet.job
SET interrupted_at = now()
WHERE id = %(job_id)s AND loaded_at IS NULL AND interrupted_at IS NULL;

-- name: status
-- Everything a person asks of jobs, from their counters, from what is leased, and from what finished
-- just now. The rate looks back 30 seconds, or to the end of the first batch of a younger job: before
-- that, models were being loaded.
SELECT j.id, j.kind, c.name AS collection, c.queue, j.documents, j.unchanged, j.rejected, j.chunks,
    j.reused, j.awaited, j.created_at, j.loaded_at, j.lane, j.tenant,
    (
        SELECT a.owner_id
        FROM embedfleet.awaited_batch AS a
        WHERE a.job_id = j.id AND j.cancelled_at IS NULL
        LIMIT 1
    ) AS awaited_job,
    CASE WHEN j.loaded_at IS NULL
        THEN coalesce(j.interrupted_at, CASE WHEN j.loading_until < now() THEN j.loading_until END)
    END AS interrupted_at, j.paused_at, j.cancelled_at, j.pause_reason,
    j.budget_usd::float8 AS budget_usd,
    (SELECT sum(u.usd)::float8 FROM embedfleet.usage AS u WHERE u.job_id = j.id) AS spent_usd,
    j.unsettled_usd::float8 AS unsettled_usd,
    (l.reserved_usd + (
        SELECT coalesce(sum((f.reserved ->> j.id::text)::numeric), 0)
        FROM embedfleet.provider_batch AS f
        WHERE f.space_id = s.id AND f.state IN ('filing', 'filed')
    ))::float8 AS reserved_usd,
    s.paused_at AS space_paused_at, s.pause_code AS space_pause_code,
    s.pause_reason AS space_pause_reason, s.provider || '/' || s.model AS model,
    k.open_batches, l.leased_batches, k.queued, k.embedded, k.failed + j.failed AS failed,
    k.tokens AS open_tokens, k.finished_at, b.reason AS waiting_reason, w.reason AS worker_reason,
    l.filed_batches, l.filed_at,
    coalesce(r.tokens / r.seconds, 0) AS tokens_per_second,
    coalesce(r.chunks / r.seconds, 0) AS chunks_per_second,
    coalesce(i.deleted, 0) AS deleted, i.undeleted,
    clock_timestamp() AS now
FROM embedfleet.job AS j
LEFT JOIN embedfleet.mirror AS i ON i.job_id = j.id
JOIN embedfleet.collection AS c ON c.id = j.collection_id
JOIN embedfleet.space AS s ON s.id = c.space_id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(open_batches), 0) AS open_batches, coalesce(sum(queued), 0) AS queued,
        coalesce(sum(tokens), 0) AS tokens, coalesce(sum(embedded), 0) AS embedded,
        coalesce(sum(failed), 0) AS failed, max(finished_at) AS finished_at
    FROM (
        SELECT open_batches, queued, tokens, embedded, failed, finished_at
        FROM embedfleet.job_counter
        WHERE job_id = j.id
        UNION ALL
        SELECT sum(open_batches), sum(queued), sum(tokens)::bigint, sum(embedded), sum(failed),
            max(finished_at)
        FROM embedfleet.counter_delta
        WHERE job_id = j.id
    ) AS changes
) AS k
CROSS JOIN LATERAL (
    SELECT count(*) AS leased_batches, coalesce(sum(reserved_usd), 0) AS reserved_usd,
        count(*) FILTER (WHERE delivery = 'provider_batch') AS filed_batches,
        min(leased_at) FILTER (WHERE delivery = 'provider_batch') AS filed_at,
        array_agg(owner) FILTER (WHERE owner IS NOT NULL) AS owners
    FROM embedfleet.batch
    WHERE (job_id, state) >= (j.id, 'leased') AND (job_id, state) <= (j.id, 'leased')
) AS l
LEFT JOIN LATERAL (
    SELECT reason
    FROM embedfleet.batch
    WHERE job_id = j.id AND reason IS NOT NULL AND state IN ('pending', 'held')
    ORDER BY id
    LIMIT 1
) AS b ON true
LEFT JOIN LATERAL (
    SELECT w.reason
    FROM embedfleet.worker AS w
    WHERE k.open_batches > 0 AND w.reason IS NOT NULL AND {alive} AND c.queue = ANY (w.queues)
        AND (l.owners IS NULL OR w.id = ANY (l.owners))
    LIMIT 1
) AS w ON true
CROSS JOIN LATERAL (
    SELECT min(finished_at) AS at
    FROM embedfleet.batch
    WHERE job_id = j.id AND state = 'done'
        AND finished_at > statement_timestamp() - interval '30 seconds'
) AS first
CROSS JOIN LATERAL (
    SELECT sum(tokens) AS tokens, sum(chunks) AS chunks,
        greatest(extract(epoch FROM clock_timestamp() - first.at), 0.1)::float8 AS seconds
    FROM embedfleet.batch
    WHERE job_id = j.id AND state = 'done' AND finished_at > first.at
) AS r
WHERE j.id = ANY (%(jobs)s::bigint[]);

-- name: collection_of
SELECT collection_id FROM embedfleet.job WHERE id = %(job_id)s;

-- name: latest
-- The jobs that still run, then the newest of the others.
SELECT j.id
FROM embedfleet.job AS j
LEFT JOIN (
    SELECT job_id, sum(open_batches) AS open_batches
    FROM (
        {of_jobs}
    ) AS o
    GROUP BY job_id
) AS k ON k.job_id = j.id
WHERE %(collection_id)s::bigint IS NULL OR j.collection_id = %(collection_id)s
ORDER BY
    j.cancelled_at IS NULL AND (
        j.loaded_at IS NULL AND j.interrupted_at IS NULL AND j.loading_until >= now()
        OR coalesce(k.open_batches, 0) > 0
        OR EXISTS (SELECT FROM embedfleet.awaited_batch AS a WHERE a.job_id = j.id)
    ) DESC,
    j.id DESC
LIMIT %(limit)s;

-- name: unfinished
-- A part of the others. A job that is done, cancelled, or interrupted with all that it had done stays
-- what it is. What is open is held, leased or pending, which are neighbours in the index: a planner
-- that is told them one by one may read all batches instead.
(j.cancelled_at IS NULL AND (
    j.loaded_at IS NULL AND j.interrupted_at IS NULL AND j.loading_until >= now()
    OR EXISTS (
        SELECT FROM embedfleet.batch AS b
        WHERE (b.job_id, b.state) >= (j.id, 'held') AND (b.job_id, b.state) <= (j.id, 'pending')
    )
    OR EXISTS (SELECT FROM embedfleet.awaited_batch AS a WHERE a.job_id = j.id)
))

-- name: pause
UPDATE embedfleet.job AS j SET paused_at = now()
WHERE j.id = %(job_id)s AND j.paused_at IS NULL AND {unfinished};

-- name: resume
-- A budget that is given replaces the one that was there.
UPDATE embedfleet.job AS j
SET paused_at = NULL, pause_reason = NULL, budget_usd = coalesce(%(budget_usd)s, budget_usd)
WHERE j.id = %(job_id)s
RETURNING j.budget_usd, j.unsettled_usd, {unfinished} AS unfinished;

-- name: cancel
UPDATE embedfleet.job AS j SET cancelled_at = now() WHERE j.id = %(job_id)s AND {unfinished};
