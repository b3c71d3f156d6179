-- name: wait_at_most
SELECT set_config('lock_timeout', %(milliseconds)s, true);

-- name: share
-- What only removes, pauses or resumes waits for us, and comes before those who ask for this later. The
-- space comes first, here and below: a row is made from left to right.
SELECT pg_advisory_xact_lock_shared(%(spaces)s, space_id::int),
    pg_advisory_xact_lock_shared(%(collections)s, id::int)
FROM embedfleet.collection
WHERE id = %(collection_id)s;

-- name: own
SELECT pg_advisory_xact_lock_shared(%(spaces)s, space_id::int),
    pg_advisory_xact_lock(%(collections)s, id::int)
FROM embedfleet.collection
WHERE id = %(collection_id)s;

-- name: own_job
-- The collection of a job; no row where there is no such job.
SELECT pg_advisory_xact_lock_shared(%(spaces)s, c.space_id::int),
    pg_advisory_xact_lock(%(collections)s, c.id::int)
FROM embedfleet.job AS j
JOIN embedfleet.collection AS c ON c.id = j.collection_id
WHERE j.id = %(job_id)s;

-- name: own_spaces
-- One lock for each, however many collections it has.
SELECT pg_advisory_xact_lock(%(spaces)s, s.id::int)
FROM (SELECT unnest(%(ids)s::bigint[]) AS id ORDER BY id) AS s;

-- name: own_space_of_provider_batch
SELECT pg_advisory_xact_lock(%(spaces)s, space_id::int)
FROM embedfleet.provider_batch
WHERE id = %(provider_batch_id)s;

-- name: repair_alone
-- Another lock than the collection's: those who add and remove go on beside.
SELECT pg_advisory_xact_lock(%(repairs)s, %(collection_id)s);

-- name: share_spaces_of
SELECT pg_advisory_xact_lock_shared(%(spaces)s, s.id::int)
FROM (
    SELECT DISTINCT space_id AS id FROM embedfleet.collection WHERE id = ANY (%(ids)s::bigint[]) ORDER BY 1
) AS s;

-- name: own_all
SELECT pg_advisory_xact_lock(%(collections)s, c.id::int)
FROM (SELECT id FROM embedfleet.collection WHERE id = ANY (%(ids)s::bigint[]) ORDER BY id) AS c;

-- name: share_writes
SELECT pg_advisory_xact_lock_shared(%(writes)s, %(collection_id)s::int);

-- name: hold_writes
SELECT pg_advisory_xact_lock(%(writes)s, %(collection_id)s::int);
