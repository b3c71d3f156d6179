-- name: claim
-- Lease the best pending batch of a queue, of no job that this process leaves alone. SKIP LOCKED:
-- claimers never wait for each other.
WITH best AS (
    SELECT id
    FROM embedfleet.batch
    WHERE state = 'pending' AND queue = %(queue)s AND run_after <= now()
        AND job_id <> ALL (%(aside)s::bigint[])
    ORDER BY priority, run_after, id
    FOR UPDATE SKIP LOCKED
    LIMIT 1
)
UPDATE embedfleet.batch AS b
SET state = 'leased',
    attempt = b.attempt + 1,
    owner = %(owner)s,
    leased_at = now(),
    lease_until = now() + make_interval(secs => %(lease_seconds)s),
    reason = NULL
FROM best
WHERE b.id = best.id
RETURNING b.id, b.attempt, b.errors, b.job_id, b.collection_id, b.tokens, b.hashes;

-- name: claim_beside
-- The same, beside the spaces that this process lets cool. Each collection is asked for its first
-- batch, and only one batch is locked, so that 100,000 batches of a cooling space cost nothing.
WITH best AS (
    SELECT b.id
    FROM (
        SELECT c.id
        FROM embedfleet.collection AS c
        CROSS JOIN LATERAL (
            SELECT f.priority, f.run_after, f.id
            FROM embedfleet.batch AS f
            WHERE f.collection_id = c.id AND f.queue = %(queue)s AND f.state = 'pending'
                AND f.run_after <= now() AND f.job_id <> ALL (%(aside)s::bigint[])
            ORDER BY f.priority, f.run_after, f.id
            LIMIT 1
        ) AS first
        WHERE c.space_id <> ALL (%(beside)s::bigint[])
        ORDER BY first.priority, first.run_after, first.id
    ) AS c
    CROSS JOIN LATERAL (
        SELECT l.id
        FROM embedfleet.batch AS l
        WHERE l.collection_id = c.id AND l.queue = %(queue)s AND l.state = 'pending'
            AND l.run_after <= now() AND l.job_id <> ALL (%(aside)s::bigint[])
        ORDER BY l.priority, l.run_after, l.id
        FOR UPDATE SKIP LOCKED
        LIMIT 1
    ) AS b
    LIMIT 1
)
UPDATE embedfleet.batch AS b
SET state = 'leased',
    attempt = b.attempt + 1,
    owner = %(owner)s,
    leased_at = now(),
    lease_until = now() + make_interval(secs => %(lease_seconds)s),
    reason = NULL
FROM best
WHERE b.id = best.id
RETURNING b.id, b.attempt, b.errors, b.job_id, b.collection_id, b.tokens, b.hashes;

-- name: claim_smaller
-- One of the batches of a job with the shortest texts, if it has a text of at most so many tokens.
WITH shortest AS MATERIALIZED (
    SELECT id, collection_id, hashes
    FROM embedfleet.batch
    WHERE job_id = %(job_id)s AND state = 'pending' AND queue = %(queue)s AND run_after <= now()
        AND id <> ALL (%(tried)s::bigint[])
    ORDER BY tokens / chunks, id
    LIMIT 20
), best AS (
    SELECT b.id
    FROM shortest AS s
    JOIN embedfleet.batch AS b USING (id)
    WHERE b.state = 'pending' AND EXISTS (
        SELECT
        FROM unnest(s.hashes) AS h (sha256)
        JOIN embedfleet.chunk AS c ON c.collection_id = s.collection_id AND c.sha256 = h.sha256
        WHERE c.tokens <= %(most)s
    )
    FOR UPDATE OF b SKIP LOCKED
    LIMIT 1
)
UPDATE embedfleet.batch AS b
SET state = 'leased',
    attempt = b.attempt + 1,
    owner = %(owner)s,
    leased_at = now(),
    lease_until = now() + make_interval(secs => %(lease_seconds)s),
    reason = NULL
FROM best
WHERE b.id = best.id
RETURNING b.id, b.attempt, b.errors, b.job_id, b.collection_id, b.tokens, b.hashes;

-- name: smaller_later
-- Whether there is one that others hold, or that is not due yet.
SELECT EXISTS (
    SELECT
    FROM (
        SELECT collection_id, hashes
        FROM embedfleet.batch
        WHERE job_id = %(job_id)s AND state = 'pending' AND queue = %(queue)s
            AND id <> ALL (%(tried)s::bigint[])
        ORDER BY tokens / chunks, id
        LIMIT 20
    ) AS s
    CROSS JOIN LATERAL unnest(s.hashes) AS h (sha256)
    JOIN embedfleet.chunk AS c ON c.collection_id = s.collection_id AND c.sha256 = h.sha256
    WHERE c.tokens <= %(most)s
) AS later;

-- name: missing_texts
-- The texts of a batch that still lack a vector: one row per hash, whichever chunk holds it.
SELECT h.sha256, c.content, c.tokens
FROM unnest(%(hashes)s::bytea[]) AS h (sha256)
CROSS JOIN LATERAL (
    SELECT content, tokens
    FROM embedfleet.chunk
    WHERE collection_id = %(collection_id)s AND sha256 = h.sha256
    LIMIT 1
) AS c
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.sha256 = h.sha256);

-- name: obstacle
-- `halted`: a pause or a cancellation has not come to the batch yet. `overlaps`: another worker is
-- just embedding some of its texts, because two jobs want the same ones. What is filed with a batch
-- API is not waited for: that may take a day.
SELECT CASE
    WHEN j.paused_at IS NOT NULL OR j.cancelled_at IS NOT NULL OR s.paused_at IS NOT NULL
    THEN 'halted'
    WHEN EXISTS (
        SELECT
        FROM embedfleet.batch AS o
        CROSS JOIN LATERAL unnest(o.hashes) AS h (sha256)
        WHERE o.state = 'leased' AND o.collection_id = j.collection_id AND o.id <> %(id)s
            AND o.queue <> 'lane'
            AND h.sha256 IN (SELECT unnest(%(hashes)s::bytea[]))
    )
    THEN 'overlaps'
END AS obstacle, j.budget_usd IS NOT NULL AS limited
FROM embedfleet.job AS j
JOIN embedfleet.collection AS c ON c.id = j.collection_id
JOIN embedfleet.space AS s ON s.id = c.space_id
WHERE j.id = %(job_id)s;

-- name: heartbeat
-- Extend the leases that still stand; one that does not come back is lost. One that is just being
-- settled is passed over, so that a slow commit silences no other.
WITH mine AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS m (id, attempt)
), idle AS (
    SELECT b.id
    FROM mine
    JOIN embedfleet.batch AS b USING (id, attempt)
    WHERE b.state = 'leased'
    FOR UPDATE OF b SKIP LOCKED
), beaten AS (
    UPDATE embedfleet.batch AS b
    SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
    FROM idle
    WHERE b.id = idle.id
)
SELECT b.id FROM mine JOIN embedfleet.batch AS b USING (id, attempt) WHERE b.state = 'leased';

-- name: fence
-- The first statement of every way out of a lease, once the collection is shared: no row, and
-- nothing may be written.
SELECT b.hashes, (j.paused_at IS NOT NULL OR s.paused_at IS NOT NULL) AS paused,
    j.cancelled_at IS NOT NULL AS cancelled, j.budget_usd IS NOT NULL AS limited
FROM embedfleet.batch AS b
JOIN embedfleet.job AS j ON j.id = b.job_id
JOIN embedfleet.collection AS c ON c.id = b.collection_id
JOIN embedfleet.space AS s ON s.id = c.space_id
WHERE b.id = %(id)s AND b.attempt = %(attempt)s AND b.state = 'leased'
FOR UPDATE OF b;

-- name: insert_vectors
-- Sorted by hash, so that two commits sharing texts cannot deadlock. A text whose last chunk was
-- deleted in the meantime is left out, or its vector would be an orphan.
INSERT INTO embedfleet.{vectors} (sha256, embedding, batch_id, attempt)
SELECT u.sha256, u.embedding, %(id)s, %(attempt)s
FROM unnest(%(hashes)s::bytea[], %(vectors)s) AS u (sha256, embedding)
WHERE EXISTS (
    SELECT FROM embedfleet.chunk AS c
    WHERE c.collection_id = %(collection_id)s AND c.sha256 = u.sha256
)
ORDER BY u.sha256
ON CONFLICT (sha256) DO NOTHING;

-- name: forget_cured
-- Failures of texts that have their vector now: another batch had given them up.
DELETE FROM embedfleet.failure
WHERE collection_id = %(collection_id)s AND sha256 = ANY (%(hashes)s::bytea[]);

-- name: limited
SELECT budget_usd IS NOT NULL AS limited FROM embedfleet.job WHERE id = %(job_id)s;

-- name: count_stored
-- Texts that got their vector while their batch goes on. What they cost is no longer reserved.
UPDATE embedfleet.batch
SET stored = least(chunks, stored + %(texts)s),
    reserved_usd = reserved_usd - least(reserved_usd, %(usd)s::numeric)
WHERE id = %(id)s;

-- name: finish
-- A batch that is through keeps the numbers of its texts that got a vector, from whomever, and of
-- those that failed: what was deleted before is in neither. A text that was deleted after its part
-- was stored has no vector to be found any more, so what was counted then is the least. It gives
-- its hashes back: they are many and no longer needed.
UPDATE embedfleet.batch AS b
SET state = %(state)s, lease_until = NULL, finished_at = now(), reason = %(reason)s,
    reserved_usd = NULL, hashes = ARRAY[]::bytea[],
    stored = c.stored, chunks = c.stored + %(failed)s
FROM (
    SELECT m.id,
        least(m.chunks - %(failed)s, greatest(m.stored + %(inserted)s, count(v.sha256))) AS stored
    FROM embedfleet.batch AS m
    LEFT JOIN LATERAL unnest(m.hashes) AS h (sha256) ON true
    LEFT JOIN embedfleet.{vectors} AS v USING (sha256)
    WHERE m.id = %(id)s
    GROUP BY m.id
) AS c
WHERE b.id = c.id;

-- name: release
-- Back to pending, or to where its job stands: held when paused, cancelled when cancelled.
-- Without a delay a batch keeps its place in the queue: behind the others it would wait for hours.
-- What it waits for all the same is then said in words, in the time of this clock.
UPDATE embedfleet.batch
SET state = %(state)s,
    lease_until = NULL,
    owner = NULL,
    reserved_usd = NULL,
    run_after = coalesce(now() + make_interval(secs => %(delay_seconds)s::float8), run_after),
    errors = errors + %(charge)s,
    reason = %(reason)s || coalesce(', until ' || to_char(
        (now() + make_interval(secs => %(wait_seconds)s::float8)) AT TIME ZONE 'UTC',
        'HH24:MI:SS "UTC"'
    ), ''),
    finished_at = CASE WHEN %(state)s = 'cancelled' THEN now() END
WHERE id = %(id)s;

-- name: left
-- The texts of a batch that have no vector yet, in their order.
SELECT h.sha256
FROM unnest(%(hashes)s::bytea[]) WITH ORDINALITY AS h (sha256, number)
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.sha256 = h.sha256)
ORDER BY h.number;

-- name: insert_halves
-- The children of a batch whose input is at fault, or that keeps killing its worker: two, of what
-- is left of it, or one where a single text is left. They say why, until they are claimed.
INSERT INTO embedfleet.batch
    (job_id, collection_id, queue, state, priority, chunks, tokens, hashes, parent_id, reason)
SELECT b.job_id, b.collection_id, b.queue, %(state)s, b.priority,
    cardinality(half.hashes), b.tokens * cardinality(half.hashes) / b.chunks, half.hashes, b.id,
    %(reason)s
FROM embedfleet.batch AS b
CROSS JOIN LATERAL (SELECT %(hashes)s::bytea[] AS hashes) AS l
CROSS JOIN LATERAL (
    VALUES (l.hashes[: cardinality(l.hashes) / 2]), (l.hashes[cardinality(l.hashes) / 2 + 1 :])
) AS half (hashes)
WHERE b.id = %(id)s AND cardinality(half.hashes) > 0;

-- name: record_failure
-- One row per text that cannot be embedded; the latest verdict stands. Not for a text that got its
-- vector from another batch, or whose last chunk is gone.
INSERT INTO embedfleet.failure (collection_id, sha256, code, reason, attempts, job_id)
SELECT b.collection_id, h.sha256, %(code)s, %(reason)s, b.errors + b.crashes + 1, b.job_id
FROM embedfleet.batch AS b
CROSS JOIN unnest(%(hashes)s::bytea[]) AS h (sha256)
WHERE b.id = %(id)s
    AND EXISTS (
        SELECT FROM embedfleet.chunk AS c
        WHERE c.collection_id = b.collection_id AND c.sha256 = h.sha256
    )
    AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.sha256 = h.sha256)
ON CONFLICT (collection_id, sha256) DO UPDATE
SET code = excluded.code, reason = excluded.reason, attempts = excluded.attempts,
    job_id = excluded.job_id, created_at = now(), retried_by = NULL
RETURNING sha256;

-- name: expired
-- Leases that ran out: their workers are dead, stopped or cut off. What is filed with a batch API is
-- its file's: the answers are paid for, and fetched even if no worker lived for days.
SELECT id, collection_id
FROM embedfleet.batch
WHERE state = 'leased' AND lease_until < now() AND queue <> 'lane'
ORDER BY lease_until
LIMIT 100;

-- name: fence_expired
-- The fence of the sweeper. A row that its late owner is just settling is skipped. An owner that
-- signed off, or still beats, has not crashed: it was cut off, or gave the batch up.
SELECT b.hashes, b.crashes, b.reserved_usd > 0 AS reserved,
    NOT EXISTS (
        SELECT FROM embedfleet.worker AS w
        WHERE w.id = b.owner AND (
            w.stopped_at IS NOT NULL
            OR w.last_seen > now() - make_interval(secs => %(alive_seconds)s)
        )
    ) AS crashed,
    (j.paused_at IS NOT NULL OR s.paused_at IS NOT NULL) AS paused,
    j.cancelled_at IS NOT NULL AS cancelled
FROM embedfleet.batch AS b
JOIN embedfleet.job AS j ON j.id = b.job_id
JOIN embedfleet.collection AS c ON c.id = b.collection_id
JOIN embedfleet.space AS s ON s.id = c.space_id
WHERE b.id = %(id)s AND b.state = 'leased' AND b.lease_until < now()
FOR UPDATE OF b SKIP LOCKED;

-- name: charge_crash
UPDATE embedfleet.batch SET crashes = crashes + 1 WHERE id = %(id)s;

-- name: idle_slots
-- Per queue with live workers and runnable work: how many slots have nothing leased.
SELECT w.queue, w.slots - coalesce(l.leased, 0) AS idle
FROM (
    SELECT queue, sum(slots) AS slots
    FROM embedfleet.worker CROSS JOIN LATERAL unnest(queues) AS queue
    WHERE stopped_at IS NULL AND last_seen > now() - make_interval(secs => %(alive_seconds)s)
    GROUP BY queue
) AS w
LEFT JOIN (
    SELECT queue, count(*) AS leased FROM embedfleet.batch WHERE state = 'leased' GROUP BY queue
) AS l ON l.queue = w.queue
WHERE EXISTS (
    SELECT FROM embedfleet.batch AS b
    WHERE b.queue = w.queue AND b.state = 'pending' AND b.run_after <= now()
);

-- name: try_sweep_lock
SELECT pg_try_advisory_xact_lock(%(space)s, 0) AS mine;
