-- name: open_batches
-- What counts the batches has nothing to count here. The indexes are written anew in any case: without
-- them, and before the rows change, that is one pass.
ALTER TABLE embedfleet.batch
    DISABLE TRIGGER USER,
    DROP CONSTRAINT ck_batch_delivery,
    ALTER COLUMN delivery SET DEFAULT 'direct';

-- name: drop_claim
DROP INDEX embedfleet.ix_batch_claim;

-- name: drop_claim_excluding
DROP INDEX embedfleet.ix_batch_claim_excluding;

-- name: rename_of_batches
UPDATE embedfleet.batch SET delivery = 'direct' WHERE delivery = 'live';

-- name: close_batches
ALTER TABLE embedfleet.batch
    ADD CONSTRAINT ck_batch_delivery CHECK (delivery IN ('direct', 'provider_batch')),
    ENABLE TRIGGER USER;

-- name: create_claim
CREATE INDEX ix_batch_claim ON embedfleet.batch (queue, priority, run_after, id)
WHERE state = 'pending' AND delivery = 'direct';

-- name: create_claim_excluding
CREATE INDEX ix_batch_claim_excluding
ON embedfleet.batch (space_id, queue, priority, run_after, id)
WHERE state = 'pending' AND delivery = 'direct';

-- name: open_jobs
ALTER TABLE embedfleet.job
    DROP CONSTRAINT ck_job_delivery,
    ALTER COLUMN delivery SET DEFAULT 'direct';

-- name: rename_of_jobs
UPDATE embedfleet.job SET delivery = 'direct' WHERE delivery = 'live';

-- name: close_jobs
ALTER TABLE embedfleet.job
    ADD CONSTRAINT ck_job_delivery CHECK (delivery IN ('direct', 'provider_batch'));

-- name: open_counters
ALTER TABLE embedfleet.job_counter DROP CONSTRAINT ck_job_counter_delivery;

-- name: rename_of_counters
UPDATE embedfleet.job_counter SET delivery = 'direct' WHERE delivery = 'live';

-- name: close_counters
ALTER TABLE embedfleet.job_counter
    ADD CONSTRAINT ck_job_counter_delivery CHECK (delivery IN ('direct', 'provider_batch'));

-- name: rename_of_deltas
UPDATE embedfleet.counter_delta SET delivery = 'direct' WHERE delivery = 'live';
