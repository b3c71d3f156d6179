-- name: create_batch_standing
-- One row per job: the state of its batches that nobody has leased, and whether that is `pending` as
-- a condition whose rows a planner can estimate. Who reads it needs the rights to read the tables
-- below, so it lets nobody see more than before.
CREATE VIEW embedfleet.batch_standing WITH (security_invoker = true) AS
SELECT j.id AS job_id, j.collection_id, c.space_id, j.lane,
    CASE
        WHEN j.cancelled_at IS NOT NULL THEN 'cancelled'
        WHEN j.paused_at IS NOT NULL OR s.paused_at IS NOT NULL THEN 'held'
        ELSE 'pending'
    END AS state,
    j.cancelled_at IS NULL AND j.paused_at IS NULL AND s.paused_at IS NULL AS open,
    j.budget_usd IS NOT NULL AS limited
FROM embedfleet.job AS j
JOIN embedfleet.collection AS c ON c.id = j.collection_id
JOIN embedfleet.space AS s ON s.id = c.space_id;
