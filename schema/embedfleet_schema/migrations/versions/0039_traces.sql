-- name: add_to_job
-- A column without a default is added without touching a row.
ALTER TABLE embedfleet.job ADD COLUMN traceparent text;

-- name: check_job
-- Rows that are there have none, so nobody has to look at them: NOT VALID.
ALTER TABLE embedfleet.job ADD CONSTRAINT ck_job_traceparent
    CHECK (traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$') NOT VALID;

-- name: add_to_batch
ALTER TABLE embedfleet.batch ADD COLUMN traceparent text;

-- name: check_batch
ALTER TABLE embedfleet.batch ADD CONSTRAINT ck_batch_traceparent
    CHECK (traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$') NOT VALID;
