-- name: await
-- The batches of others that a job waits for; returns all, whether it waited for them before or not.
WITH others AS (
    SELECT id, b.job_id, w.texts
    FROM unnest(%(batches)s::bigint[], %(texts)s::int[]) AS w (id, texts)
    JOIN embedfleet.batch AS b USING (id)
    WHERE b.job_id <> %(job_id)s
), new AS (
    INSERT INTO embedfleet.awaited_batch AS a (batch_id, job_id, owner_id, texts)
    SELECT id, %(job_id)s, job_id, texts FROM others ORDER BY id
    ON CONFLICT (batch_id, job_id) DO UPDATE SET texts = a.texts + excluded.texts
)
SELECT id FROM others;

-- name: inherit
-- Batches of jobs that are paused or cancelled go to jobs that wait for them and are not; of a job that
-- is cancelled also to one that is paused. Whose they were waits for them now, unless it is cancelled:
-- what a job has itself it does not wait for, so its texts are in one count. What is leased is paid for
-- by whose it was, so it goes only as it leaves its lease. The caller has locked them.
WITH awaited AS (
    SELECT b.id, b.chunks - b.stored AS texts, {row}
    FROM embedfleet.batch AS b
    WHERE b.id = ANY (%(ids)s::bigint[])
        AND (b.state IN ('pending', 'held') OR %(leaving)s AND b.state = 'leased')
        AND EXISTS (SELECT FROM embedfleet.awaited_batch AS a WHERE a.batch_id = b.id)
), given AS (
    SELECT DISTINCT ON (f.id) f.id, f.texts, f.job_id AS former_id, s.state AS former,
        a.job_id AS heir_id
    FROM awaited AS f
    JOIN embedfleet.batch_standing AS s ON s.job_id = f.job_id
    JOIN embedfleet.awaited_batch AS a ON a.batch_id = f.id
    JOIN embedfleet.batch_standing AS h ON h.job_id = a.job_id
    WHERE NOT s.open AND (h.open OR s.state = 'cancelled' AND h.state = 'held')
    ORDER BY f.id, h.open DESC, a.job_id
), was AS (
    SELECT {row} FROM awaited AS b JOIN given USING (id)
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
    RETURNING a.job_id, -a.texts AS texts
), formers AS (
    INSERT INTO embedfleet.awaited_batch (batch_id, job_id, owner_id, texts)
    SELECT id, former_id, heir_id, texts FROM given WHERE former <> 'cancelled'
    RETURNING job_id, texts
), waiting AS (
    SELECT j.id, w.texts
    FROM (
        SELECT job_id, sum(texts) AS texts
        FROM (SELECT * FROM heirs UNION ALL SELECT * FROM formers) AS c
        GROUP BY job_id
    ) AS w
    JOIN embedfleet.job AS j ON j.id = w.job_id
    ORDER BY j.id
    FOR NO KEY UPDATE OF j
), recounted AS (
    UPDATE embedfleet.job AS j
    SET awaited = j.awaited + w.texts
    FROM waiting AS w
    WHERE j.id = w.id
)
SELECT g.id, h.state
FROM given AS g
JOIN embedfleet.batch_standing AS h ON h.job_id = g.heir_id;
