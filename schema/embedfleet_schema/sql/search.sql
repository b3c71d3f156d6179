-- name: nearest
-- Relaxed scans may return neighbours slightly out of order, hence the sort around them.
WITH nearest AS MATERIALIZED (
    SELECT id, document, position, content, metadata, embedding {operator} {query} AS distance
    FROM embedfleet.{view}{where}
    ORDER BY embedding {operator} {query}
    LIMIT {k}
)
SELECT id, document, position, content, metadata, distance
FROM nearest
ORDER BY distance, id;

-- name: scan_settings
-- Without an iterative scan a filter silently returns too few rows. A search takes no longer than
-- its role may, which other statements of ours do.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.ef_search', %(ef_search)s, true),
    set_config('hnsw.max_scan_tuples', %(max_scan_tuples)s, true),
    set_config('statement_timeout', %(statement_timeout)s, true);
