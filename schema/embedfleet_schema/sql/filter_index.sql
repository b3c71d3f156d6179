-- name: indexes
-- A part of the others: the indexes that serve filters, ours or a person's.
FROM pg_index AS i
JOIN pg_class AS x ON x.oid = i.indexrelid
JOIN pg_am AS m ON m.oid = x.relam AND m.amname = 'gin'
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = 'metadata'
WHERE i.indrelid = {chunks} AND i.indpred IS NULL AND a.attnum = ANY (i.indkey);

-- name: found
-- Those of one collection, and whether each is usable.
SELECT x.relname AS name, i.indisvalid AS valid
{indexes};

-- name: create
-- What comes in waits in a list, which each search with a filter reads to its end: no longer than 1 MB.
CREATE INDEX CONCURRENTLY {index} ON embedfleet.{chunks} USING gin (metadata jsonb_path_ops)
WITH (gin_pending_list_limit = 1024);

-- name: missed
-- Collections whose filters read every chunk, where that takes long. Of metadata the statistics know
-- how wide it is; none is 5 bytes. Who may not read them is told nothing.
SELECT c.name, h.reltuples::bigint AS chunks
FROM embedfleet.collection AS c
JOIN pg_class AS h ON h.oid = to_regclass(format('embedfleet.%%I', '_chunks_' || c.id))
JOIN pg_stats AS s
    ON s.schemaname = 'embedfleet' AND s.tablename = h.relname AND s.attname = 'metadata'
WHERE h.reltuples >= %(chunks)s AND s.avg_width > 5
    AND NOT EXISTS (
        SELECT
        {indexes} AND i.indisvalid
    )
ORDER BY h.reltuples DESC;
