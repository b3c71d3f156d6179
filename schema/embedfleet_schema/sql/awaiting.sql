-- name: await
-- The batches of others that a job waits for; returns all, whether it waited for them before or not.
WITH others AS (
    SELECT id, job_id
    FROM embedfleet.batch
    WHERE id = ANY (%(batches)s::bigint[]) AND job_id <> %(job_id)s
), new AS (
    INSERT INTO embedfleet.awaited_batch (batch_id, job_id, owner_id)
    SELECT id, %(job_id)s, job_id FROM others ORDER BY id
    ON CONFLICT (batch_id, job_id) DO NOTHING
)
SELECT id FROM others;

-- name: inherit
-- Batches of jobs that are paused or cancelled go to jobs that wait for them and are not; of a job that
-- is cancelled also to one that is paused. Whose they were waits for them now, unless it is cancelled.
-- One that is just being taken is passed over: of two who wait for batches in different orders, each
-- would wait for the other.
WITH free AS (
    SELECT b.id, b.job_id
    FROM embedfleet.batch AS b
    WHERE b.id = ANY (%(ids)s::bigint[]) AND b.state IN ('pending', 'held', 'leased')
        AND EXISTS (SELECT FROM embedfleet.awaited_batch AS a WHERE a.batch_id = b.id)
    FOR UPDATE OF b SKIP LOCKED
), given AS (
    SELECT DISTINCT ON (f.id) f.id, f.job_id AS former_id, s.state AS former, a.job_id AS heir_id
    FROM free AS f
    JOIN embedfleet.batch_standing AS s ON s.job_id = f.job_id
    JOIN embedfleet.awaited_batch AS a ON a.batch_id = f.id
    JOIN embedfleet.batch_standing AS h ON h.job_id = a.job_id
    WHERE NOT s.open AND (h.open OR s.state = 'cancelled' AND h.state = 'held')
    ORDER BY f.id, h.open DESC, a.job_id
), was AS (
    SELECT {row} FROM embedfleet.batch AS b JOIN given USING (id)
), now AS (
    UPDATE embedfleet.batch AS b
    SET job_id = g.heir_id
    FROM given AS g
    WHERE b.id = g.id
    RETURNING {row}
), moved AS (
    SELECT -1 AS sign, * FROM was UNION ALL SELECT 1, * FROM now
), counted AS (
    {count}
), others AS (
    UPDATE embedfleet.awaited_batch AS a
    SET owner_id = g.heir_id
    FROM given AS g
    WHERE a.batch_id = g.id AND a.job_id <> g.heir_id
), heirs AS (
    DELETE FROM embedfleet.awaited_batch AS a
    USING given AS g
    WHERE a.batch_id = g.id AND a.job_id = g.heir_id
), formers AS (
    INSERT INTO embedfleet.awaited_batch (batch_id, job_id, owner_id)
    SELECT id, former_id, heir_id FROM given WHERE former <> 'cancelled'
)
SELECT g.id, h.state
FROM given AS g
JOIN embedfleet.batch_standing AS h ON h.job_id = g.heir_id;
