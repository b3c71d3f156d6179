-- name: list
SELECT name, field, type
FROM embedfleet.collection_column
WHERE collection_id = %(collection_id)s
ORDER BY id;

-- name: add
-- With its view (migration 0036).
SELECT embedfleet.add_column(%(collection_id)s, %(name)s, %(field)s, %(type)s);

-- name: index
-- Of a collection without rows (migration 0036).
SELECT embedfleet.index_column(%(collection_id)s, %(field)s, %(kind)s, %(index)s);

-- name: remove
SELECT embedfleet.remove_column(%(collection_id)s, %(name)s);

-- name: expressions
-- Each column as SQL over a chunk `c`, and as what its value is found.
SELECT name, embedfleet.column_expression(field, type) AS expression,
    embedfleet.filter_keys(field) AS keys
FROM embedfleet.collection_column
WHERE collection_id = %(collection_id)s
ORDER BY id;

-- name: of_another_type
-- Chunks that have a value which a column does not show; null is no value.
SELECT {counts} FROM embedfleet.{chunks} AS c;

-- name: count
-- A part of it.
count(*) FILTER (WHERE jsonb_typeof({extracted}) <> 'null' AND {expression} IS NULL);
