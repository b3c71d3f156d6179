-- name: table
-- NULL where nothing of ours is in this database.
SELECT to_regclass('embedfleet.alembic_version') AS revisions;

-- name: stored
SELECT version_num FROM embedfleet.alembic_version;
