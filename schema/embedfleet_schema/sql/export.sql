-- name: snapshot
-- All statements of this transaction see the same rows.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: page
-- The chunks that the view shows of the next documents, by key. A page of documents at a time: to sort
-- all chunks with their vectors would take as much disk again.
WITH page AS MATERIALIZED (
    SELECT id, key, live_version, live_kept
    FROM embedfleet.{documents}
    WHERE key > %(after)s AND live_version IS NOT NULL
    ORDER BY key
    LIMIT %(limit)s
)
SELECT d.key, c.position, c.start_offset, c.end_offset, t.content, c.metadata::text,
    count(*) OVER (PARTITION BY d.key) AS chunks, {send}(v.embedding) AS vector
FROM page AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_live}
JOIN embedfleet.{texts} AS t ON t.id = c.text_id
JOIN embedfleet.{vectors} AS v ON v.text_id = c.text_id
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
