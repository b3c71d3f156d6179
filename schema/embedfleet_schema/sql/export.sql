-- name: snapshot
-- All statements of this transaction see the same rows.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: page
-- The chunks that the view shows of the next documents, by key. A page of documents at a time: to sort
-- all chunks with their vectors would take as much disk again. OFFSET 0 makes each be looked up: a
-- planner that takes a page for many might read whole tables for it.
WITH page AS MATERIALIZED (
    SELECT id, key, live_version, live_kept
    FROM embedfleet.{documents}
    WHERE key > %(after)s AND live_version IS NOT NULL
    ORDER BY key
    LIMIT %(limit)s
)
SELECT d.key, c.position, c.start_offset, c.end_offset, t.content, t.context, c.metadata::text,
    count(*) OVER (PARTITION BY d.key) AS chunks, {send}(v.embedding) AS vector
FROM page AS d
CROSS JOIN LATERAL (
    SELECT c.position, c.start_offset, c.end_offset, c.text_id, c.metadata
    FROM embedfleet.{chunks} AS c
    WHERE c.document_id = d.id AND {in_live}
    OFFSET 0
) AS c
CROSS JOIN LATERAL (
    SELECT content, context FROM embedfleet.{texts} WHERE id = c.text_id OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT embedding FROM embedfleet.{vectors} WHERE text_id = c.text_id OFFSET 0
) AS v
ORDER BY d.key, c.position;

-- name: last
-- The key that a page ends with; none where there is no more.
SELECT max(key) AS last
FROM (
    SELECT key
    FROM embedfleet.{documents}
    WHERE key > %(after)s AND live_version IS NOT NULL
    ORDER BY key
    LIMIT %(limit)s
) AS p;
