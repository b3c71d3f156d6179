-- name: ensure_space
-- One row per fingerprint; the dummy update makes RETURNING give the row that was there.
INSERT INTO embedfleet.space
    (fingerprint, provider, model, revision, dimensions, max_tokens, pooling, normalized,
        document_prompt, query_prompt, storage, metric)
VALUES
    (%(fingerprint)s, %(provider)s, %(model)s, %(revision)s, %(dimensions)s, %(max_tokens)s,
        %(pooling)s, %(normalized)s, %(document_prompt)s, %(query_prompt)s, %(storage)s,
        %(metric)s)
ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint
RETURNING id;

-- name: serialize
-- Two processes that create the same collection at once take turns.
SELECT pg_advisory_xact_lock(%(space)s, hashtext(%(name)s));

-- name: name_taken
SELECT to_regclass(format('embedfleet.%%I', %(name)s::text)) IS NOT NULL AS taken;

-- name: create
INSERT INTO embedfleet.collection
    (name, space_id, chunk_size, chunk_overlap, chunk_mode, tokenizer, too_long, queue)
VALUES
    (%(name)s, %(space_id)s, %(size)s, %(overlap)s, %(mode)s, %(tokenizer)s, %(too_long)s,
        %(queue)s)
RETURNING id;

-- name: create_relations
-- Its tables and its view, made by a function of the schema's owner (see migration 0017).
SELECT embedfleet.create_relations(%(collection_id)s);

-- name: drop_view
DROP VIEW IF EXISTS embedfleet.{name} {behaviour};

-- name: drop_tables
DROP TABLE IF EXISTS embedfleet.{vectors}, embedfleet.{texts}, embedfleet.{chunks},
    embedfleet.{documents} {behaviour};

-- name: delete
DELETE FROM embedfleet.collection WHERE id = %(collection_id)s;

-- name: list
SELECT c.id, c.name, c.space_id, c.chunk_size, c.chunk_overlap, c.chunk_mode, c.tokenizer, c.too_long,
    c.queue, c.created_at, s.provider, s.model, s.revision, s.dimensions, s.max_tokens, s.pooling,
    s.normalized, s.document_prompt, s.query_prompt, s.storage, s.metric
FROM embedfleet.collection AS c
JOIN embedfleet.space AS s ON s.id = c.space_id
WHERE (%(name)s::text IS NULL OR c.name = %(name)s)
    AND (%(id)s::bigint IS NULL OR c.id = %(id)s)
ORDER BY c.name;

-- name: counts
SELECT count(*) AS documents,
    count(*) FILTER (WHERE live_version IS NOT NULL) AS live_documents,
    (SELECT count(*) FROM embedfleet.{vectors}) AS vectors,
    (SELECT count(*) FROM embedfleet.failure WHERE collection_id = %(collection_id)s) AS failures,
    pg_total_relation_size('embedfleet.{vectors}'::regclass) AS vector_bytes,
    EXISTS (
        SELECT
        FROM pg_index AS i
        JOIN pg_class AS k ON k.oid = i.indexrelid
        JOIN pg_am AS a ON a.oid = k.relam
        WHERE i.indrelid = 'embedfleet.{vectors}'::regclass AND a.amname = 'hnsw' AND i.indisvalid
    ) AS indexed
FROM embedfleet.{documents};

-- name: indexes
-- The HNSW indexes of a vector table and whether each is usable.
SELECT k.relname AS name, i.indisvalid AS valid
FROM pg_index AS i
JOIN pg_class AS k ON k.oid = i.indexrelid
JOIN pg_am AS a ON a.oid = k.relam
WHERE i.indrelid = to_regclass(%(table)s) AND a.amname = 'hnsw';

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS embedfleet.{index};

-- name: set_build
-- Of the session, which is the build's own and ends with it: it runs in no transaction. A build waits
-- for transactions that are older than it, also at its end, when hours would be lost.
SELECT set_config('lock_timeout', '0', false),
    set_config('maintenance_work_mem', %(memory)s, false),
    set_config('max_parallel_maintenance_workers', %(workers)s, false);

-- name: create_index
CREATE INDEX CONCURRENTLY {index} ON embedfleet.{vectors} USING hnsw (embedding {operators});

-- name: analyze
-- Fresh statistics: without them the planner takes the view for a handful of rows and sorts it all.
ANALYZE embedfleet.{vectors}, embedfleet.{texts}, embedfleet.{chunks}, embedfleet.{documents};

-- name: index_progress
SELECT p.phase, p.current_locker_pid, p.tuples_done, p.tuples_total, p.blocks_done, p.blocks_total
FROM pg_stat_progress_create_index AS p
WHERE p.relid = to_regclass(%(table)s);
