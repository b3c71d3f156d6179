-- name: live_keys
-- Those of some keys whose documents readers see.
SELECT key
FROM embedfleet.{documents}
WHERE key = ANY (%(keys)s) AND live_version IS NOT NULL;

-- name: drawn_keys
-- Live documents, drawn at random, and the same ones each time.
SELECT key
FROM embedfleet.{documents}
WHERE live_version IS NOT NULL
ORDER BY hashint8extended(id, 0)
LIMIT %(limit)s;

-- name: chunks
-- The live chunks of some documents, in their order. Offsets are read by who may: who only searches
-- may not.
SELECT d.key, {start}, t.content, c.metadata ? 'headings' AS of_markdown
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_live}
JOIN embedfleet.{texts} AS t ON t.id = c.text_id
WHERE d.key = ANY (%(keys)s)
ORDER BY d.key, c.position;

-- name: start
c.start_offset

-- name: no_start
NULL::int

-- name: may_drop
-- Collections are dropped by who has the rights of the owner of the schema.
SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'embedfleet';

-- name: scratch
-- Collections that a comparison made for itself.
SELECT name FROM embedfleet.collection WHERE name ~ %(pattern)s ORDER BY name;

-- name: weight
-- How many distinct texts a collection has, and how many tokens those have.
SELECT count(*), coalesce(sum(tokens), 0)::bigint FROM embedfleet.{texts};

-- name: searchable
-- How many chunks a search can find.
SELECT count(*)
FROM embedfleet.{vectors} AS v
JOIN embedfleet.{chunks} AS c ON c.text_id = v.text_id
JOIN embedfleet.{documents} AS d ON d.id = c.document_id AND {in_live};

-- name: points
-- Such chunks, drawn at random, and the same ones each time: where they stand, how their texts begin,
-- a field of their metadata, and their vectors.
SELECT p.key, p.position, left(t.content, %(characters)s),
    p.metadata #> embedfleet.filter_keys(%(field)s), v.embedding
FROM (
    SELECT d.key, c.position, c.metadata, c.text_id
    FROM embedfleet.{vectors} AS w
    JOIN embedfleet.{chunks} AS c ON c.text_id = w.text_id
    JOIN embedfleet.{documents} AS d ON d.id = c.document_id AND {in_live}
    ORDER BY hashint8extended(c.id, 0)
    LIMIT %(limit)s
) AS p
JOIN embedfleet.{texts} AS t ON t.id = p.text_id
JOIN embedfleet.{vectors} AS v ON v.text_id = p.text_id;
