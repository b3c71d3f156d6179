-- name: lock
-- One migration at a time, whatever it commits on its way.
SELECT pg_advisory_lock(%(space)s, %(lock)s);

-- name: unlock
SELECT pg_advisory_unlock(%(space)s, %(lock)s);

-- name: schema
-- NULL where it is not there.
SELECT to_regnamespace('embedfleet') AS schema;

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS embedfleet;

-- name: create_extension
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
