-- name: register
INSERT INTO embedfleet.worker
    (id, hostname, pid, queues, slots, device, version, heartbeat_seconds)
VALUES
    (%(id)s, %(hostname)s, %(pid)s, %(queues)s, %(slots)s, %(device)s, %(version)s,
        %(heartbeat_seconds)s)
ON CONFLICT (id) DO UPDATE SET last_seen = now(), stopped_at = NULL;

-- name: beat
-- No index has any of it: see the model.
UPDATE embedfleet.worker
SET last_seen = now(),
    device = %(device)s,
    reason = %(reason)s,
    batches = batches + %(batches)s,
    chunks = chunks + %(chunks)s,
    tokens = tokens + %(tokens)s
WHERE id = %(id)s
RETURNING id;

-- name: leave
UPDATE embedfleet.worker SET stopped_at = now(), last_seen = now() WHERE id = %(id)s;

-- name: forget
-- Workers that have been gone for a day.
DELETE FROM embedfleet.worker
WHERE coalesce(stopped_at, last_seen) < now() - interval '1 day';

-- name: forget_dead
DELETE FROM embedfleet.worker AS w
WHERE w.stopped_at IS NULL AND NOT {alive}
    AND NOT EXISTS (SELECT FROM embedfleet.batch AS b WHERE b.state = 'leased' AND b.owner = w.id);

-- name: alive
-- Whether the worker `w` still counts: it has not signed off, and one of its last three heartbeats
-- came.
(w.stopped_at IS NULL AND w.last_seen > now() - make_interval(secs => 3 * w.heartbeat_seconds))

-- name: count_alive
SELECT count(*) FROM embedfleet.worker AS w WHERE {alive} AND %(queue)s = ANY (w.queues);

-- name: reason
-- What keeps a worker of a queue from its work, if one says so.
SELECT max(w.reason) FROM embedfleet.worker AS w WHERE {alive} AND %(queue)s = ANY (w.queues);

-- name: recent
SELECT w.id, w.hostname, w.pid, w.queues, w.slots, w.device, w.version, w.batches, w.chunks,
    w.tokens, w.started_at, w.last_seen, extract(epoch FROM now() - w.last_seen)::float8 AS silent_s,
    {alive} AS is_alive,
    coalesce(l.leased, 0) AS leased, w.reason
FROM embedfleet.worker AS w
LEFT JOIN (
    SELECT owner, count(*) AS leased
    FROM embedfleet.batch
    WHERE state = 'leased' AND delivery = 'direct'
    GROUP BY owner
) AS l ON l.owner = w.id
WHERE {alive} OR (w.stopped_at IS NULL AND w.last_seen > now() - interval '1 hour')
ORDER BY w.hostname, w.pid;

-- name: queues
-- From the counters; what is leased, and what is put off and says why, are few and are counted. Of what
-- is put off so many are counted at most that this stays quick, and the rest passes for ready.
SELECT o.queue, o.delivery,
    greatest(0, o.open - o.held - coalesce(l.leased, 0) - d.deferred) AS ready, d.deferred,
    o.held, coalesce(l.leased, 0) AS leased, o.tokens
FROM (
    SELECT c.queue, k.delivery, sum(k.open_batches)::bigint AS open,
        sum(k.held_batches)::bigint AS held, sum(k.tokens)::bigint AS tokens
    FROM (
        {of_jobs}
    ) AS k
    JOIN embedfleet.job AS j ON j.id = k.job_id
    JOIN embedfleet.collection AS c ON c.id = j.collection_id
    WHERE k.open_batches > 0
    GROUP BY c.queue, k.delivery
) AS o
LEFT JOIN (
    SELECT queue, delivery, count(*) AS leased
    FROM embedfleet.batch
    WHERE state = 'leased'
    GROUP BY queue, delivery
) AS l USING (queue, delivery)
CROSS JOIN LATERAL (
    SELECT count(*) AS deferred
    FROM (
        SELECT
        FROM embedfleet.batch AS b
        WHERE b.state = 'pending' AND b.queue = o.queue AND b.delivery = 'direct' AND o.delivery = 'direct'
            AND b.reason IS NOT NULL AND b.run_after > now()
        UNION ALL
        SELECT
        FROM embedfleet.batch AS b
        WHERE b.state = 'pending' AND b.queue = o.queue AND b.delivery = 'provider_batch'
            AND o.delivery = 'provider_batch'
            AND b.priority = 0 AND b.run_after > now()
        LIMIT %(most)s
    ) AS b
) AS d
ORDER BY o.queue, o.delivery;
