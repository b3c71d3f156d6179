-- name: times
-- Per lane, how long jobs took from the call until their last text was searchable: of the newest jobs,
-- those that ended within a day and embedded something. By the counters that were added up, so the
-- last seconds are not in it.
SELECT j.lane, count(*) AS jobs,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY k.seconds) AS p50_s,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY k.seconds) AS p95_s
FROM (
    SELECT id, lane, created_at
    FROM (
        SELECT id, lane, created_at, loaded_at, cancelled_at
        FROM embedfleet.job
        ORDER BY id DESC
        LIMIT %(jobs)s
    ) AS newest
    WHERE loaded_at IS NOT NULL AND cancelled_at IS NULL
) AS j
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM max(c.finished_at) - j.created_at)::float8 AS seconds
    FROM embedfleet.job_counter AS c
    WHERE c.job_id = j.id
    HAVING sum(c.open_batches) = 0 AND max(c.finished_at) > now() - interval '1 day'
) AS k
GROUP BY j.lane
ORDER BY j.lane DESC;
