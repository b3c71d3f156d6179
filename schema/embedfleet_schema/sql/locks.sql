-- name: share
-- Held while chunks or vectors are added: what only removes (delete, prune) waits for us.
SELECT pg_advisory_xact_lock_shared(%(space)s, %(collection_id)s);

-- name: own
-- Held while chunks or vectors are removed: nobody may count on a vector that is about to go.
SELECT pg_advisory_xact_lock(%(space)s, %(collection_id)s);

-- name: repair_alone
-- Another lock than the collection's: those who add and remove go on beside.
SELECT pg_advisory_xact_lock(%(space)s, %(collection_id)s);
