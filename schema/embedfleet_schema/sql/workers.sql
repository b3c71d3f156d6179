-- name: register
INSERT INTO embedfleet.worker
    (id, hostname, pid, queues, slots, device, version, heartbeat_seconds)
VALUES
    (%(id)s, %(hostname)s, %(pid)s, %(queues)s, %(slots)s, %(device)s, %(version)s,
        %(heartbeat_seconds)s)
ON CONFLICT (id) DO UPDATE SET last_seen = now(), stopped_at = NULL;

-- name: beat
UPDATE embedfleet.worker
SET last_seen = now(),
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

-- name: alive
-- Whether the worker `w` still counts: it has not signed off, and one of its last three heartbeats
-- came.
(w.stopped_at IS NULL AND w.last_seen > now() - make_interval(secs => 3 * w.heartbeat_seconds))

-- name: count_alive
SELECT count(*) FROM embedfleet.worker AS w WHERE {alive} AND %(queue)s = ANY (w.queues);

-- name: recent
SELECT w.id, w.hostname, w.pid, w.queues, w.slots, w.device, w.version, w.batches, w.chunks,
    w.tokens, w.started_at, w.last_seen, extract(epoch FROM now() - w.last_seen)::float8 AS silent_s,
    {alive} AS is_alive,
    (SELECT count(*) FROM embedfleet.batch AS b WHERE b.owner = w.id AND b.state = 'leased')
        AS leased
FROM embedfleet.worker AS w
WHERE {alive} OR (w.stopped_at IS NULL AND w.last_seen > now() - interval '1 hour')
ORDER BY w.hostname, w.pid;

-- name: queues
SELECT queue, lane,
    count(*) FILTER (WHERE state = 'pending' AND run_after <= now()) AS ready,
    count(*) FILTER (WHERE state = 'pending' AND run_after > now()) AS deferred,
    count(*) FILTER (WHERE state = 'held') AS held,
    count(*) FILTER (WHERE state = 'leased') AS leased,
    coalesce(sum(tokens), 0) AS tokens
FROM embedfleet.batch
WHERE state IN ('pending', 'held', 'leased')
GROUP BY queue, lane
ORDER BY queue, lane DESC;
