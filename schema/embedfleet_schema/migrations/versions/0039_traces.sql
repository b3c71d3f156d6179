-- name: add_to_job
-- A column without a default is added without touching a row.
ALTER TABLE embedfleet.job ADD COLUMN traceparent text;

-- name: check_job
-- Looks at all jobs, which are few.
ALTER TABLE embedfleet.job ADD CONSTRAINT ck_job_traceparent
    CHECK (traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$');

-- name: add_to_batch
-- Of batches there are many, so a check would stop workers for its look at them. What is here comes
-- from the job.
ALTER TABLE embedfleet.batch ADD COLUMN traceparent text;
