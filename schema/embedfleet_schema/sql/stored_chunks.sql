-- name: last
-- The key that a page of documents ends with; none where there is no more.
SELECT max(key) AS last
FROM (
    SELECT key
    FROM embedfleet.{documents}
    WHERE key > %(after)s AND digest <> ''
    ORDER BY key
    LIMIT %(limit)s
) AS p;

-- name: chunks_of
-- The chunks of the newest versions of some documents, as they are stored, and why one was refused before
-- anyone tried: a text that PostgreSQL cannot hold has no other hash than this one. OFFSET 0 makes each be
-- looked up: a planner that takes a page for many might read whole tables for it.
SELECT d.key, d.digest, d.version, d.source, c.position, c.start_offset, c.end_offset,
    uuid_send(t.hash) AS hash, t.tokens, t.content, t.context, c.metadata::text AS metadata,
    f.code, f.reason
FROM (
    SELECT id, key, digest, version, source, kept
    FROM embedfleet.{documents}
    WHERE {which} AND digest <> ''
    OFFSET 0
) AS d
CROSS JOIN LATERAL (
    SELECT c.position, c.start_offset, c.end_offset, c.text_id, c.metadata
    FROM embedfleet.{chunks} AS c
    WHERE c.document_id = d.id AND {in_newest}
    OFFSET 0
) AS c
CROSS JOIN LATERAL (
    SELECT hash, tokens, content, context FROM embedfleet.{texts} WHERE id = c.text_id OFFSET 0
) AS t
LEFT JOIN embedfleet.failure AS f
    ON f.collection_id = %(collection_id)s AND f.text_id = c.text_id AND f.attempts = 0
ORDER BY d.key, c.position;

-- name: keys_between
key > %(after)s AND key <= %(last)s

-- name: keys_given
key = ANY (%(keys)s)
