-- name: questions
-- Vectors of queries that were asked for last.
SELECT embedding::real[]
FROM embedfleet.query_vector
WHERE space_id = %(space_id)s
ORDER BY used_at DESC
LIMIT %(limit)s;

-- name: span
SELECT min(id), max(id) FROM embedfleet.{view};

-- name: chunks
-- Live chunks next to places between the first and the last one, with their vectors as text.
SELECT DISTINCT ON (c.id) c.id, c.embedding
FROM unnest(%(places)s::bigint[]) AS p (place)
CROSS JOIN LATERAL (
    SELECT v.id, v.embedding::text AS embedding
    FROM embedfleet.{view} AS v
    WHERE v.id >= p.place
    ORDER BY v.id
    LIMIT 1
) AS c;

-- name: widen
-- For one search: candidates of an HNSW index, or lists of an IVFFlat index.
SELECT set_config(%(setting)s, %(value)s, true);

-- name: search
SELECT id, score
FROM embedfleet.search(%(collection)s, %(query)s, %(k)s, exact => %(exact)s);
