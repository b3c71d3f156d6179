-- name: begin_reading
-- A policy on the table would hide rows in silence, and they would be taken for deleted: so it is an
-- error. Times are written in UTC.
SET LOCAL row_security = off;
SET LOCAL timezone = 'UTC';
SET LOCAL bytea_output = 'hex';
SET LOCAL extra_float_digits = 1

-- name: page
-- A page of rows in the order of the index, with the sizes of what would be read of each.
SELECT {key} AS key, {text_bytes} AS text_bytes, {metadata_bytes} AS metadata_bytes,
    ARRAY[{position}] AS position
FROM {table} AS t
WHERE {after}
ORDER BY {columns}
LIMIT %(limit)s;

-- name: from_start
true

-- name: after
ROW({columns}) > ROW({values})

-- name: sized
-- The same of rows by their keys. Each is looked up in the index, whatever a planner thinks of the list.
SELECT DISTINCT {key} AS key, {text_bytes} AS text_bytes, {metadata_bytes} AS metadata_bytes
FROM unnest({arrays}) AS w ({names})
CROSS JOIN LATERAL (SELECT {columns} FROM {table} WHERE {same} OFFSET 0) AS t;

-- name: rows
SELECT {key} AS key, {text} AS text, {metadata} AS metadata
FROM unnest({arrays}) AS w ({names})
CROSS JOIN LATERAL (SELECT {columns} FROM {table} WHERE {same} OFFSET 0) AS t;

-- name: as_text
-- A part of others, as all below: by the output function of its type, as in the triggers.
concat(t.{column})

-- name: composite_key
jsonb_build_array({columns})::text

-- name: joined
concat_ws(E'\n\n', {columns})

-- name: unless_empty
nullif(concat(t.{column}), '')

-- name: length
coalesce(octet_length(t.{column}), 0)::bigint

-- name: stored_length
-- As it is stored, compressed or not: it is not read to be measured.
coalesce(pg_column_size(t.{column}), 0)::bigint

-- name: no_metadata
'{{}}'::jsonb

-- name: metadata
jsonb_build_object({pairs})

-- name: json_of_builtin
t.{column}

-- name: json_of_other
-- A cast to JSON may be code of others, too.
CASE WHEN t.{column} IS NOT NULL THEN concat(t.{column}) END

-- name: array_of
{values}::text[]::{type}[]

-- name: value_of
{value}::{type}

-- name: same
{column} = w.{name}
