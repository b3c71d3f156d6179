-- name: own
-- Before a search. The collection's vectors are named beside its view, in the order of a drop, and
-- nothing is read: of one that was dropped they are not there, and the next one of its name is not
-- searched.
WITH own AS (SELECT FROM embedfleet.{view}, embedfleet.{vectors});

-- name: nearest
-- Relaxed scans may return neighbours slightly out of order, hence the sort around them. The sum
-- keeps PostgreSQL from taking them for sorted:
-- https://github.com/pgvector/pgvector#iterative-index-scans
{own}SELECT id, document, position, content, metadata, distance
FROM (
    SELECT id, document, position, content, metadata, embedding {operator} {query} AS distance
    FROM embedfleet.{view}{where}
    ORDER BY embedding {operator} {query}
    LIMIT {k}
) AS nearest
ORDER BY distance + 0, id;

-- name: exact
-- No index serves a sum, so every row that matches is compared.
{own}SELECT id, document, position, content, metadata, embedding {operator} {query} AS distance
FROM embedfleet.{view}{where}
ORDER BY (embedding {operator} {query}) + 0, id
LIMIT {k};

-- name: compared
-- An exact search by a function (see migration 0019), in one statement, so that no hit is lost between
-- the two halves. The first column tells whether it did it, or leaves it to the index.
{own}SELECT f.ids IS NOT NULL AS compared, v.*
FROM (
    SELECT embedfleet.compared({collection_id}, {wanted}::jsonb, {query}::text, {k}, {always}) AS ids
    OFFSET 0
) AS f
LEFT JOIN LATERAL (
    SELECT id, document, position, content, metadata, embedding {operator} {query} AS distance
    FROM embedfleet.{view}
    WHERE id = ANY (f.ids)
) AS v ON true
ORDER BY v.distance, v.id;

-- name: complete
-- Both in one, for people: rows are compared only where the index gave too few.
WITH question AS MATERIALIZED (
    SELECT {query} AS vector
), nearest AS MATERIALIZED (
    SELECT id, document, position, content, metadata,
        embedding {operator} (SELECT vector FROM question) AS distance
    FROM embedfleet.{view}{where}
    ORDER BY embedding {operator} (SELECT vector FROM question)
    LIMIT {k}
), compared AS MATERIALIZED (
    SELECT id, document, position, content, metadata,
        embedding {operator} (SELECT vector FROM question) AS distance
    FROM embedfleet.{view}
    WHERE (SELECT count(*) FROM nearest) < {k}{and_where}
    ORDER BY (embedding {operator} (SELECT vector FROM question)) + 0, id
    LIMIT {k}
)
SELECT id, document, position, content, metadata, distance + 0 AS distance
FROM nearest
WHERE (SELECT count(*) FROM nearest) >= {k}
UNION ALL
SELECT id, document, position, content, metadata, distance
FROM compared
ORDER BY distance, id;

-- name: script
BEGIN;
{settings};
{statement};
COMMIT;

-- name: setting
SET LOCAL {name} = {value};

-- name: scan_settings
-- How far an iterative scan may go, which returns too few rows when it has come there. The second
-- limit, of memory, is put beyond the first. A search takes no longer than its role may, which other
-- statements of ours do.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true) AS "hnsw.iterative_scan",
    set_config('hnsw.ef_search', %(ef_search)s, true) AS "hnsw.ef_search",
    set_config('hnsw.max_scan_tuples', coalesce(%(tuples)s::int, (
        SELECT least(%(most)s, greatest(1, reltuples / 8))::int
        FROM pg_class
        WHERE oid = to_regclass(%(table)s)
    ), %(most)s)::text, true) AS "hnsw.max_scan_tuples",
    set_config('hnsw.scan_mem_multiplier', %(memory)s, true) AS "hnsw.scan_mem_multiplier",
    set_config('statement_timeout', %(statement_timeout)s, true) AS statement_timeout,
    EXISTS (
        SELECT
        FROM pg_index AS i
        JOIN pg_class AS x ON x.oid = i.indexrelid
        JOIN pg_am AS m ON m.oid = x.relam AND m.amname = 'hnsw'
        WHERE i.indrelid = to_regclass(%(table)s) AND i.indisvalid
    ) AS indexed;
