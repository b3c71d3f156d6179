-- name: found
-- The indexes on a table of vectors, the newest first, and what each takes on disk.
SELECT i.name, i.valid, i.method, i.type, i.metric, i.lists, pg_relation_size(i.index) AS bytes
FROM embedfleet.vector_indexes(to_regclass(%(table)s)) AS i
ORDER BY i.index DESC;

-- name: server
-- What the server would take for a build by itself, and what it has for its pages.
SELECT pg_size_bytes(current_setting('maintenance_work_mem')) / 1048576 AS memory_mb,
    pg_size_bytes(current_setting('shared_buffers')) / 1048576 AS buffers_mb;

-- name: create
CREATE INDEX CONCURRENTLY {index} ON embedfleet.{vectors} USING {method} ({key} {operators}) {options};

-- name: lists
-- A part of `create`, as those below: what is indexed. The function vector_indexes knows each again.
WITH (lists = {lists})

-- name: as_stored
embedding

-- name: as_halfvec
(embedding::{schema}.halfvec({dimensions}))

-- name: as_unit_halfvec
-- Of any length: as they are some would be too large for float16, and storing them would fail.
({schema}.l2_normalize(embedding)::{schema}.halfvec({dimensions}))

-- name: as_bit
({schema}.binary_quantize(embedding)::bit({dimensions}))

-- name: rebuild
REINDEX INDEX CONCURRENTLY embedfleet.{index};

-- name: without_index
-- Collections without a usable index, and how many vectors they have by the last statistics.
SELECT c.name, greatest(k.reltuples, 0)::bigint AS vectors
FROM embedfleet.collection AS c
JOIN pg_class AS k
    ON k.oid = to_regclass('embedfleet._vectors_' || c.id || '_' || c.space_id)
WHERE NOT EXISTS (
    SELECT
    FROM pg_index AS i
    JOIN pg_class AS x ON x.oid = i.indexrelid
    JOIN pg_am AS a ON a.oid = x.relam
    WHERE i.indrelid = k.oid AND a.amname IN ('hnsw', 'ivfflat') AND i.indisvalid
);


-- name: standing
-- What a policy decides by: how many vectors there are, and how many texts workers are about to embed.
SELECT coalesce((
        SELECT sum(b.chunks)
        FROM embedfleet.job AS j
        JOIN embedfleet.batch AS b ON b.job_id = j.id
        WHERE j.collection_id = %(collection_id)s AND j.cancelled_at IS NULL AND j.paused_at IS NULL
            AND b.state IN ('pending', 'leased')
    ), 0)::bigint AS waiting;

-- name: upkeep
-- Tables of vectors and their indexes: what was written since the last vacuum, and what the indexes take.
SELECT c.name AS collection, i.name, i.valid, i.method, i.type, pg_relation_size(i.index) AS bytes,
    greatest(v.reltuples, 0)::bigint AS vectors, coalesce(s.n_dead_tup, 0) AS dead,
    coalesce(s.n_live_tup, 0) AS live
FROM embedfleet.collection AS c
JOIN pg_class AS v ON v.oid = to_regclass(format('embedfleet.%I', format('_vectors_%s_%s', c.id, c.space_id)))
CROSS JOIN LATERAL embedfleet.vector_indexes(v.oid) AS i
LEFT JOIN pg_stat_user_tables AS s ON s.relid = v.oid
ORDER BY c.name, i.index DESC;

-- name: settings
SELECT ef_search, probes, policy
FROM embedfleet.collection_index
WHERE collection_id = %(collection_id)s;

-- name: set_search
-- How far an index is searched where nobody says more; what is not named stays.
INSERT INTO embedfleet.collection_index AS i (collection_id, ef_search, probes)
VALUES (%(collection_id)s, %(ef_search)s, %(probes)s)
ON CONFLICT (collection_id) DO UPDATE
SET ef_search = coalesce(excluded.ef_search, i.ef_search), probes = coalesce(excluded.probes, i.probes);

-- name: set_policy
-- Producers may, who load.
INSERT INTO embedfleet.collection_index (collection_id, policy)
VALUES (%(collection_id)s, %(policy)s)
ON CONFLICT (collection_id) DO UPDATE SET policy = excluded.policy;
