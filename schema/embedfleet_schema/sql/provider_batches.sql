-- name: due
-- Spaces with texts to be filed: enough for a whole provider batch, or all that their jobs will bring. A
-- producer that died says nothing more, so a long wait ends too.
SELECT s.id AS space_id, s.provider || '/' || s.model AS model
FROM embedfleet.batch AS b
JOIN embedfleet.job AS j ON j.id = b.job_id
JOIN embedfleet.batch_standing AS t ON t.job_id = j.id
JOIN embedfleet.space AS s ON s.id = t.space_id
WHERE b.state = 'pending' AND b.delivery = 'provider_batch' AND b.run_after <= now() AND t.open
GROUP BY s.id
HAVING sum(b.chunks) >= %(texts)s
    OR bool_and(j.loaded_at IS NOT NULL)
    OR min(b.created_at) < now() - make_interval(secs => %(patience_seconds)s)
ORDER BY s.id;

-- name: under_way
-- What of a model waits at the provider, and how much may do so, if a refusal of the last day said:
-- its limits know nothing of spaces.
WITH alike AS (
    SELECT other.id
    FROM embedfleet.space AS mine
    JOIN embedfleet.space AS other USING (provider, model)
    WHERE mine.id = %(space_id)s
)
SELECT coalesce(sum(requests) FILTER (WHERE state IN ('filing', 'filed')), 0) AS requests,
    coalesce(sum(tokens) FILTER (WHERE state IN ('filing', 'filed')), 0) AS tokens,
    (
        SELECT token_limit
        FROM embedfleet.provider_batch
        WHERE space_id IN (SELECT id FROM alike) AND token_limit IS NOT NULL
            AND created_at > now() - interval '1 day'
        ORDER BY id DESC
        LIMIT 1
    ) AS token_limit
FROM embedfleet.provider_batch
WHERE space_id IN (SELECT id FROM alike);

-- name: candidates
-- Who knows no price files for jobs without a budget alone. The jobs are few and come first: then
-- the index gives the batches of the space in their order, and those beyond the limit are not read.
SELECT b.id, b.chunks, b.tokens, b.job_id, b.collection_id, s.has_budget
FROM (
    SELECT id, chunks, tokens, job_id, collection_id, priority, run_after
    FROM embedfleet.batch
    WHERE state = 'pending' AND delivery = 'provider_batch' AND space_id = %(space_id)s
        AND run_after <= now() AND job_id = ANY (ARRAY(
            SELECT job_id
            FROM embedfleet.batch_standing
            WHERE space_id = %(space_id)s AND open AND (%(priced)s OR NOT has_budget)
        ))
    ORDER BY priority, run_after, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS b
JOIN embedfleet.batch_standing AS s USING (job_id)
ORDER BY b.priority, b.run_after, b.id;

-- name: leave_to_others
-- Say once of the batches of jobs with a budget why they wait; they keep their places.
UPDATE embedfleet.batch AS b
SET reason = %(reason)s
FROM (
    SELECT w.id
    FROM embedfleet.batch AS w
    JOIN embedfleet.job AS j ON j.id = w.job_id
    WHERE w.state = 'pending' AND w.delivery = 'provider_batch' AND w.space_id = %(space_id)s
        AND j.budget_usd IS NOT NULL AND w.reason IS DISTINCT FROM %(reason)s
    FOR UPDATE OF w SKIP LOCKED
) AS w
WHERE b.id = w.id;

-- name: texts
SELECT texts FROM embedfleet.batch WHERE id = %(id)s;

-- name: overlapping
-- Those of the batches that share a text with one that is leased, or with an earlier one of them.
WITH mine AS (
    SELECT b.id, b.collection_id, h.text_id
    FROM embedfleet.batch AS b
    CROSS JOIN LATERAL unnest(b.texts) AS h (text_id)
    WHERE b.id = ANY (%(ids)s::bigint[])
), leased AS (
    SELECT b.collection_id, h.text_id
    FROM embedfleet.batch AS b
    CROSS JOIN LATERAL unnest(b.texts) AS h (text_id)
    WHERE b.state = 'leased' AND b.collection_id IN (SELECT collection_id FROM mine)
)
SELECT m.id FROM mine AS m JOIN leased AS l USING (collection_id, text_id)
UNION
SELECT m.id
FROM mine AS m
JOIN mine AS other USING (collection_id, text_id)
WHERE other.id < m.id;

-- name: put_off
UPDATE embedfleet.batch
SET run_after = now() + make_interval(secs => %(delay_seconds)s), reason = %(reason)s
WHERE id = ANY (%(ids)s::bigint[]);

-- name: create
INSERT INTO embedfleet.provider_batch (space_id, account, state, requests, tokens, price, reserved)
VALUES (%(space_id)s, %(account)s, 'filing', %(requests)s, %(tokens)s, %(price)s, %(reserved)s)
RETURNING id;

-- name: unfinished
-- Those that are not over, the oldest first. `wanted` counts batches whose job was
-- not cancelled, or that another job waits for.
SELECT f.id, f.token::text AS token, f.account, f.space_id,
    s.provider || '/' || s.model AS model, f.state,
    f.input_file_id, f.remote_batch_id, f.requests, f.tokens, f.price::float8 AS price,
    f.created_at,
    extract(epoch FROM now() - f.checked_at)::float8 AS checked_s,
    extract(epoch FROM now() - coalesce(f.filed_at, f.created_at))::float8 AS age_s,
    b.leased, b.wanted
FROM embedfleet.provider_batch AS f
JOIN embedfleet.space AS s ON s.id = f.space_id
CROSS JOIN LATERAL (
    SELECT count(*) AS leased,
        count(*) FILTER (
            WHERE j.cancelled_at IS NULL OR EXISTS (
                SELECT
                FROM embedfleet.awaited_batch AS a
                JOIN embedfleet.job AS h ON h.id = a.job_id
                WHERE a.batch_id = b.id AND h.cancelled_at IS NULL
            )
        ) AS wanted
    FROM embedfleet.batch AS b
    JOIN embedfleet.job AS j ON j.id = b.job_id
    WHERE b.provider_batch_id = f.id AND b.state = 'leased' AND b.delivery = 'provider_batch'
) AS b
WHERE f.state IN ('filing', 'filed') AND (%(id)s::bigint IS NULL OR f.id = %(id)s)
ORDER BY f.id;

-- name: touch
-- The fence of who files: no row, and somebody took him for dead and gave the batches back.
UPDATE embedfleet.provider_batch
SET checked_at = now(),
    input_file_id = coalesce(%(input_file_id)s, input_file_id),
    requests = %(requests)s,
    tokens = %(tokens)s
WHERE id = %(id)s AND state = 'filing'
RETURNING id;

-- name: filed
UPDATE embedfleet.provider_batch
SET state = 'filed', remote_batch_id = %(remote_batch_id)s, filed_at = now(), checked_at = now(),
    input_file_id = coalesce(%(input_file_id)s, input_file_id)
WHERE id = %(id)s AND state = 'filing'
RETURNING id;

-- name: looked
UPDATE embedfleet.provider_batch SET checked_at = now(), reason = %(reason)s WHERE id = %(id)s;

-- name: end
-- The fence of every end: it ends once.
UPDATE embedfleet.provider_batch
SET state = %(state)s, code = %(code)s, reason = %(reason)s, token_limit = %(token_limit)s,
    checked_at = now(), finished_at = now()
WHERE id = %(id)s AND state IN ('filing', 'filed')
RETURNING space_id;

-- name: refusals_in_a_row
-- How often the provider had no room, since it last took one.
SELECT count(*) AS refusals
FROM embedfleet.provider_batch AS f
WHERE f.space_id = %(space_id)s AND f.code = %(code)s
    AND f.id > coalesce((
        SELECT max(id)
        FROM embedfleet.provider_batch
        WHERE space_id = %(space_id)s AND state = 'done'
    ), 0);

-- name: leases
SELECT id, attempt, errors, job_id, collection_id, tokens, texts
FROM embedfleet.batch
WHERE provider_batch_id = %(provider_batch_id)s AND state = 'leased'
    AND delivery = 'provider_batch'
ORDER BY id;

-- name: jobs
-- Whose the texts of one are, those that are settled too: each answer is somebody's expense.
SELECT id, job_id FROM embedfleet.batch WHERE provider_batch_id = %(provider_batch_id)s;
