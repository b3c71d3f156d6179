-- name: index_unfiled
-- Of batches that are to be filed. It is empty until their rows say so. Not CONCURRENTLY: that waits for
-- every statement that began before, and one of them may wait for this migration.
CREATE INDEX IF NOT EXISTS ix_batch_unfiled
ON embedfleet.batch (space_id, priority, run_after, id)
WHERE state = 'pending' AND lane = 'provider_batch';

-- name: index_filed
-- By which the rows that change are found at once, and no longer needed then.
CREATE INDEX IF NOT EXISTS ix_batch_filed ON embedfleet.batch (id) WHERE lane = 'batch';

-- name: lock
-- All of them, before anything is changed.
LOCK TABLE embedfleet.collection, embedfleet.batch, embedfleet.job, embedfleet.lane_file,
    embedfleet.counter_delta, embedfleet.job_counter, embedfleet.batch_standing
IN ACCESS EXCLUSIVE MODE;

-- name: drop_checks
ALTER TABLE embedfleet.batch DROP CONSTRAINT ck_batch_lane;
ALTER TABLE embedfleet.job DROP CONSTRAINT ck_job_lane;
ALTER TABLE embedfleet.job_counter DROP CONSTRAINT ck_job_counter_lane;

-- name: drop_key
-- Batches go with their job, which goes with its collection. No index finds those of a collection, so
-- that a drop read the whole table.
ALTER TABLE embedfleet.batch DROP CONSTRAINT fk_batch_collection_id;

-- name: change_batches
UPDATE embedfleet.batch SET lane = 'provider_batch' WHERE lane = 'batch';

-- name: change_jobs
UPDATE embedfleet.job SET lane = 'provider_batch' WHERE lane = 'batch';

-- name: change_job_counters
UPDATE embedfleet.job_counter SET lane = 'provider_batch' WHERE lane = 'batch';

-- name: change_deltas
UPDATE embedfleet.counter_delta SET lane = 'provider_batch' WHERE lane = 'batch';

-- name: drop_indexes
DROP INDEX embedfleet.ix_batch_file, embedfleet.ix_batch_filed;

-- name: rename_columns
ALTER TABLE embedfleet.batch RENAME COLUMN lane TO delivery;
ALTER TABLE embedfleet.batch RENAME COLUMN lane_file_id TO provider_batch_id;
ALTER TABLE embedfleet.job RENAME COLUMN lane TO delivery;
ALTER TABLE embedfleet.job_counter RENAME COLUMN lane TO delivery;
ALTER TABLE embedfleet.counter_delta RENAME COLUMN lane TO delivery;
ALTER VIEW embedfleet.batch_standing RENAME COLUMN lane TO delivery;
ALTER TABLE embedfleet.lane_file RENAME COLUMN batch_id TO remote_batch_id;

-- name: rename_table
ALTER TABLE embedfleet.lane_file RENAME TO provider_batch;
ALTER SEQUENCE embedfleet.lane_file_id_seq RENAME TO provider_batch_id_seq;

-- name: rename_indexes
ALTER INDEX embedfleet.pk_lane_file RENAME TO pk_provider_batch;
ALTER INDEX embedfleet.ix_lane_file_space_id_state RENAME TO ix_provider_batch_space_id_state;
ALTER INDEX embedfleet.ix_batch_claim_beside RENAME TO ix_batch_claim_excluding;
ALTER INDEX embedfleet.ix_batch_lane_file_id RENAME TO ix_batch_provider_batch_id;

-- name: rename_constraints
ALTER TABLE embedfleet.provider_batch RENAME CONSTRAINT ck_lane_file_state TO ck_provider_batch_state;
ALTER TABLE embedfleet.provider_batch
RENAME CONSTRAINT fk_lane_file_space_id TO fk_provider_batch_space_id;
ALTER TABLE embedfleet.batch
RENAME CONSTRAINT fk_batch_lane_file_id TO fk_batch_provider_batch_id;

-- name: rename_not_nulls
-- From PostgreSQL 18 on these have names, too, which the commands above leave as they are.
DO $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT c.conrelid::regclass AS relation, c.conname AS name,
            regexp_replace(
                regexp_replace(c.conname, '^lane_file_', 'provider_batch_'),
                '_lane_not_null$', '_delivery_not_null'
            ) AS wanted
        FROM pg_constraint AS c
        WHERE c.connamespace = 'embedfleet'::regnamespace AND c.contype = 'n'
            AND c.conname ~ '^lane_file_|_lane_not_null$'
    LOOP
        EXECUTE format(
            'ALTER TABLE %s RENAME CONSTRAINT %I TO %I', each.relation, each.name, each.wanted
        );
    END LOOP;
END
$$;

-- name: add_checks
ALTER TABLE embedfleet.batch ADD CONSTRAINT ck_batch_delivery
CHECK (delivery IN ('live', 'provider_batch')) NOT VALID;
ALTER TABLE embedfleet.job ADD CONSTRAINT ck_job_delivery
CHECK (delivery IN ('live', 'provider_batch')) NOT VALID;
ALTER TABLE embedfleet.job_counter ADD CONSTRAINT ck_job_counter_delivery
CHECK (delivery IN ('live', 'provider_batch')) NOT VALID;
