-- name: jobs
-- What was enqueued before, and by programs that are not upgraded yet, is bulk of the default tenant.
ALTER TABLE embedfleet.job
    ADD COLUMN tenant text NOT NULL DEFAULT 'default',
    ADD COLUMN lane text NOT NULL DEFAULT 'bulk',
    ADD COLUMN lane_by_size boolean NOT NULL DEFAULT false,
    ADD COLUMN wanted_tokens bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT ck_job_lane CHECK (lane IN ('interactive', 'bulk'));

-- name: batches
-- Those that wait come first, in their order.
ALTER TABLE embedfleet.batch ADD COLUMN start_tag double precision NOT NULL DEFAULT 0;

-- name: drop_claim
DROP INDEX embedfleet.ix_batch_claim;

-- name: drop_claim_excluding
DROP INDEX embedfleet.ix_batch_claim_excluding;

-- name: create_claim
CREATE INDEX ix_batch_claim ON embedfleet.batch (queue, priority, start_tag, run_after, id)
WHERE state = 'pending' AND delivery = 'direct';

-- name: create_claim_excluding
CREATE INDEX ix_batch_claim_excluding
ON embedfleet.batch (space_id, queue, priority, start_tag, run_after, id)
WHERE state = 'pending' AND delivery = 'direct';

-- name: create_tenant
CREATE TABLE embedfleet.tenant (
    name text NOT NULL CONSTRAINT pk_tenant PRIMARY KEY,
    weight double precision NOT NULL,
    CONSTRAINT ck_tenant_weight CHECK (weight BETWEEN 0.001 AND 1000)
);

-- name: create_tenant_share
CREATE TABLE embedfleet.tenant_share (
    space_id bigint NOT NULL
        CONSTRAINT fk_tenant_share_space_id REFERENCES embedfleet.space (id) ON DELETE CASCADE,
    queue text NOT NULL,
    priority smallint NOT NULL,
    tenant text NOT NULL,
    finish_tag double precision NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_tenant_share PRIMARY KEY (space_id, queue, priority, tenant)
);

-- name: index_tenant_share
CREATE INDEX ix_tenant_share_space_id_finish_tag
ON embedfleet.tenant_share (space_id, queue, priority, finish_tag);

-- name: index_tenant_share_queue
CREATE INDEX ix_tenant_share_queue_finish_tag
ON embedfleet.tenant_share (queue, priority, finish_tag);
