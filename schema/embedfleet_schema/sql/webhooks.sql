-- name: create
INSERT INTO embedfleet.webhook (job_id, url) VALUES (%(job_id)s, %(url)s);

-- name: claim
-- The webhook that is due for longest of a job that has ended. Whoever takes it has so many seconds;
-- then it is due again, because he may be dead.
UPDATE embedfleet.webhook AS w
SET attempts = w.attempts + 1, due_at = now() + make_interval(secs => %(lease_s)s)
WHERE w.job_id = (
    SELECT h.job_id
    FROM embedfleet.webhook AS h
    JOIN embedfleet.job AS j ON j.id = h.job_id
    WHERE h.delivered_at IS NULL AND h.failed_at IS NULL AND h.due_at <= now()
        AND NOT {unfinished}
    ORDER BY h.due_at
    LIMIT 1
    FOR UPDATE OF h SKIP LOCKED
)
RETURNING w.id, w.job_id, w.url, w.attempts, extract(epoch FROM clock_timestamp())::bigint;

-- name: deliver
UPDATE embedfleet.webhook
SET delivered_at = now(), reason = NULL
WHERE job_id = %(job_id)s AND attempts = %(attempt)s AND failed_at IS NULL;

-- name: fail
-- It is tried again after a while, or no more.
UPDATE embedfleet.webhook
SET reason = %(reason)s, due_at = now() + make_interval(secs => %(wait_s)s),
    failed_at = CASE WHEN %(is_last)s THEN now() END
WHERE job_id = %(job_id)s AND attempts = %(attempt)s AND delivered_at IS NULL;

-- name: note
-- Those that are due, for a worker that cannot sign them.
UPDATE embedfleet.webhook AS h
SET reason = %(reason)s
FROM embedfleet.job AS j
WHERE j.id = h.job_id AND h.attempts = 0 AND h.reason IS NULL AND h.due_at <= now()
    AND h.delivered_at IS NULL AND h.failed_at IS NULL AND NOT {unfinished};

-- name: of_job
SELECT w.id, w.url, w.attempts, w.due_at, w.delivered_at, w.failed_at, w.reason
FROM embedfleet.job AS j
LEFT JOIN embedfleet.webhook AS w ON w.job_id = j.id
WHERE j.id = %(job_id)s;
