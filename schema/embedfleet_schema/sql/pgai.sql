-- name: catalog
-- All that pgai knows of its vectorizers; which columns that is depends on its version.
SELECT to_jsonb(v) FROM {catalog} AS v ORDER BY v.id;

-- name: columns
-- The columns of a table by their names, each with the name of its type.
SELECT a.attname, t.typname
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: waiting
-- Rows of the source that pgai has not embedded as they are now.
SELECT count(*) FROM (
    {waiting}
) AS w;

-- name: stored
-- What the embedding store holds: documents and chunks.
SELECT count(DISTINCT ({keys})), count(*) FROM {store} AS t;

-- name: chunks
-- The chunks of an embedding store: `chunk` is exactly what was embedded. A document whose last chunks are
-- there says how many it must have. What is gone from the source is not taken.
SELECT {key} AS document, t.chunk_seq AS position, t.chunk AS text, ({metadata}) AS metadata,
    t.embedding::text AS vector, max(t.chunk_seq) OVER (PARTITION BY {keys}) + 1 AS chunks
FROM {store} AS t
JOIN {source} AS s ON {joined}
ORDER BY {keys}, t.chunk_seq;

-- name: filled
-- How many rows of a source have their vector in a column of it.
SELECT count(*) FROM {source} AS s
WHERE s.{vector} IS NOT NULL AND s.{text} <> '' AND NOT EXISTS (
    SELECT FROM (
        {waiting}
    ) AS w
    WHERE {joined}
);

-- name: rows
-- The rows of a source with the vectors beside them. What waits was changed since its vector was made.
-- What the text was formatted with comes as it is.
SELECT {key} AS document, 0 AS position, s.{text}::text AS text, ({metadata}) AS metadata,
    s.{vector}::text AS vector, 1 AS chunks{formatted_with}
FROM {source} AS s
WHERE s.{vector} IS NOT NULL AND s.{text} <> '' AND NOT EXISTS (
    SELECT FROM (
        {waiting}
    ) AS w
    WHERE {joined}
);

-- name: texts
-- The texts of a source as they are now: what a sync of this column would embed.
SELECT {source_key} AS key, s.{text}::text AS text, ({metadata}) AS metadata
FROM {source} AS s
WHERE s.{text} <> '';

-- name: metadata
-- A part of others: the columns that are kept, as one object.
SELECT to_jsonb(r)::text FROM (SELECT {columns}) AS r

-- name: queued
-- A part of `waiting`.
SELECT {keys} FROM {queue}
