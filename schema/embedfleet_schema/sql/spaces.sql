-- name: pause
-- The first reason stays: later ones are about batches that were on their way.
UPDATE embedfleet.space
SET paused_at = now(), pause_code = %(code)s, pause_reason = %(reason)s
WHERE id = %(space_id)s AND paused_at IS NULL;

-- name: named
SELECT id FROM embedfleet.space WHERE provider || '/' || model = %(name)s;

-- name: resume
UPDATE embedfleet.space
SET paused_at = NULL, pause_code = NULL, pause_reason = NULL
WHERE id = ANY (%(spaces)s) AND paused_at IS NOT NULL
RETURNING id;

-- name: queues
SELECT DISTINCT queue FROM embedfleet.collection WHERE space_id = ANY (%(spaces)s) ORDER BY queue;

-- name: paused
-- What stands still, since when and why, and how much waits for it; of all spaces, or of one.
SELECT s.id, s.provider || '/' || s.model AS model, s.paused_at, s.pause_code AS code,
    s.pause_reason AS reason, array_agg(c.name ORDER BY c.name) AS collections,
    coalesce(sum(h.batches), 0)::bigint AS held
FROM embedfleet.space AS s
JOIN embedfleet.collection AS c ON c.space_id = s.id
LEFT JOIN (
    SELECT j.collection_id, sum(k.held_batches) AS batches
    FROM (
        {of_jobs}
    ) AS k
    JOIN embedfleet.job AS j ON j.id = k.job_id
    WHERE k.held_batches > 0
    GROUP BY j.collection_id
) AS h ON h.collection_id = c.id
WHERE s.paused_at IS NOT NULL AND (%(space_id)s::bigint IS NULL OR s.id = %(space_id)s)
GROUP BY s.id
ORDER BY s.paused_at, s.id;
