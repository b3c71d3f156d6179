-- name: wait_at_most
SELECT set_config('lock_timeout', %(milliseconds)s, true);

-- name: share
-- What only removes, pauses or resumes waits for us, and comes before those who ask for this later.
SELECT pg_advisory_xact_lock_shared(%(space)s, %(collection_id)s);

-- name: share_lane_file
-- The collections of its batches, in the order in which everyone takes several.
SELECT pg_advisory_xact_lock_shared(%(space)s, b.collection_id::int)
FROM (
    SELECT DISTINCT collection_id
    FROM embedfleet.batch
    WHERE lane_file_id = %(file_id)s AND state = 'leased'
    ORDER BY collection_id
) AS b;

-- name: own
SELECT pg_advisory_xact_lock(%(space)s, %(collection_id)s);

-- name: own_job
-- The collection of a job; no row where there is no such job.
SELECT pg_advisory_xact_lock(%(space)s, collection_id::int)
FROM embedfleet.job
WHERE id = %(job_id)s;

-- name: take_spaces
-- The rows come first: who makes a collection in one of the spaces waits, or is waited for.
SELECT id FROM embedfleet.space WHERE id = ANY (%(spaces)s) ORDER BY id FOR NO KEY UPDATE;

-- name: own_spaces
SELECT pg_advisory_xact_lock(%(space)s, c.id::int)
FROM (SELECT id FROM embedfleet.collection WHERE space_id = ANY (%(spaces)s) ORDER BY id) AS c;

-- name: repair_alone
-- Another lock than the collection's: those who add and remove go on beside.
SELECT pg_advisory_xact_lock(%(space)s, %(collection_id)s);
