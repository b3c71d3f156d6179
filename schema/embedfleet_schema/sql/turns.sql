-- name: try
SELECT pg_try_advisory_xact_lock(%(space)s, %(lock)s) AS mine;
