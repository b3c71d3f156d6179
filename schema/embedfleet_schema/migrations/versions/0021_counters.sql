-- name: create_deltas
-- What a transaction changed: nobody waits for anybody, and the sweep adds the rows up. Without a key,
-- which would double what a row costs; replicas are told all of a row that goes.
CREATE TABLE IF NOT EXISTS embedfleet.counter_delta (
    collection_id bigint NOT NULL,
    job_id bigint,
    lane text,
    open_batches int,
    held_batches int,
    queued int,
    tokens bigint,
    embedded int,
    failed int,
    finished_at timestamptz,
    documents int,
    live_documents int,
    chunks int,
    vectors int,
    failures int
);
ALTER TABLE embedfleet.counter_delta REPLICA IDENTITY FULL;

-- name: create_collection_counters
CREATE TABLE IF NOT EXISTS embedfleet.collection_counter (
    collection_id bigint CONSTRAINT pk_collection_counter PRIMARY KEY
        CONSTRAINT fk_collection_counter_collection_id
        REFERENCES embedfleet.collection ON DELETE CASCADE,
    documents bigint NOT NULL DEFAULT 0,
    live_documents bigint NOT NULL DEFAULT 0,
    chunks bigint NOT NULL DEFAULT 0,
    vectors bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0
);

-- name: create_job_counters
CREATE TABLE IF NOT EXISTS embedfleet.job_counter (
    job_id bigint CONSTRAINT fk_job_counter_job_id REFERENCES embedfleet.job ON DELETE CASCADE,
    lane text NOT NULL,
    open_batches bigint NOT NULL DEFAULT 0,
    held_batches bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    embedded bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    removed_embedded bigint NOT NULL DEFAULT 0,
    removed_failed bigint NOT NULL DEFAULT 0,
    tokens_per_second double precision,
    CONSTRAINT pk_job_counter PRIMARY KEY (job_id, lane),
    CONSTRAINT ck_job_counter_lane CHECK (lane IN ('live', 'batch'))
);

-- name: drop_indexes
-- A heartbeat moves `lease_until`: not in an index, it is written beside the row alone.
DROP INDEX IF EXISTS embedfleet.ix_batch_lease, embedfleet.ix_batch_job_id_finished_at;

-- name: create_index_of_leases
CREATE INDEX IF NOT EXISTS ix_batch_leased ON embedfleet.batch (lane, queue) WHERE state = 'leased';

-- name: create_index_of_finished
CREATE INDEX IF NOT EXISTS ix_batch_finished
ON embedfleet.batch (job_id, finished_at) WHERE finished_at IS NOT NULL;

-- name: create_index_of_reasons
CREATE INDEX IF NOT EXISTS ix_batch_reason
ON embedfleet.batch (job_id, id) WHERE reason IS NOT NULL AND state IN ('pending', 'held');

-- name: keep_room
-- Rows that are updated over and over: room for the next version on the same page, and a vacuum long
-- before a fifth of them are dead.
ALTER TABLE embedfleet.batch SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05
);
ALTER TABLE embedfleet.job SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500
);
ALTER TABLE embedfleet.worker SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500
);
ALTER TABLE embedfleet.lane_file SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500
);
ALTER TABLE embedfleet.job_counter SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500
);
ALTER TABLE embedfleet.collection_counter SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500
);
ALTER TABLE embedfleet.counter_delta SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 10000
);

-- name: count
-- One collection with its jobs, in one statement and so in one transaction; what was counted before a
-- migration was cut off stays. A batch that ended in an early release may not say what it stored.
WITH counted AS (
    INSERT INTO embedfleet.collection_counter
        (collection_id, documents, live_documents, chunks, vectors, failures)
    SELECT {collection_id}, d.documents, d.live,
        (SELECT count(*) FROM embedfleet.{chunks}),
        (SELECT count(*) FROM embedfleet.{vectors}),
        (SELECT count(*) FROM embedfleet.failure WHERE collection_id = {collection_id})
    FROM (
        SELECT count(*) AS documents, count(*) FILTER (WHERE live_version IS NOT NULL) AS live
        FROM embedfleet.{documents}
    ) AS d
    ON CONFLICT DO NOTHING
    RETURNING collection_id
)
INSERT INTO embedfleet.job_counter
    (job_id, lane, open_batches, held_batches, queued, tokens, embedded, failed, finished_at)
SELECT b.job_id, b.lane, count(*) FILTER (WHERE o.open), count(*) FILTER (WHERE b.state = 'held'),
    coalesce(sum(b.chunks - b.stored) FILTER (WHERE o.open), 0),
    coalesce(sum(b.tokens * (b.chunks - b.stored) / b.chunks) FILTER (WHERE o.open), 0),
    sum(CASE b.state WHEN 'done' THEN b.chunks ELSE b.stored END),
    coalesce(sum(b.chunks - b.stored) FILTER (WHERE b.state = 'dead'), 0),
    max(b.finished_at)
FROM counted AS c
JOIN embedfleet.batch AS b USING (collection_id)
CROSS JOIN LATERAL (SELECT b.state IN ('pending', 'held', 'leased') AS open) AS o
GROUP BY b.job_id, b.lane;
