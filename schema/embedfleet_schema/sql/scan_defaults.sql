-- name: load
-- Only what pgvector has declared may be set by somebody who is no superuser.
SELECT {schema}.vector_dims('[1]'::{schema}.vector);

-- name: home
-- The schema of the extension, and the name of this database.
SELECT n.nspname AS schema, current_database() AS database
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- name: set_default
ALTER DATABASE {database} SET {parameter} = {value};

-- name: found
-- What a new session has; NULL where nobody set it and pgvector is not loaded yet.
SELECT pg_catalog.current_setting('hnsw.iterative_scan', true) AS iterative_scan;
