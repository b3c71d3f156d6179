-- name: standing
-- Whether new batches of the job may run, and how, and when they have their turn.
SELECT s.job_id, s.state, s.delivery, j.tenant, j.lane, j.lane_by_size, j.wanted_tokens,
    j.traceparent
FROM embedfleet.batch_standing AS s
JOIN embedfleet.job AS j ON j.id = s.job_id
WHERE s.job_id = %(job_id)s;

-- name: numbers
-- For new batches: their texts are stored before them, each with the batch that it waits in.
SELECT nextval(pg_get_serial_sequence('embedfleet.batch', 'id'))
FROM generate_series(1, %(count)s);

-- name: enqueue
-- A batch of a job, as a producer packs it. Here and below, one that is cancelled keeps no texts:
-- nobody asks for them again.
INSERT INTO embedfleet.batch
    (id, job_id, collection_id, space_id, queue, delivery, state, priority, start_tag, chunks, tokens,
        traceparent, texts, finished_at)
OVERRIDING SYSTEM VALUE
VALUES
    (%(id)s, %(job_id)s, %(collection_id)s, %(space_id)s, %(queue)s, %(delivery)s, %(state)s,
        %(priority)s, %(start_tag)s, %(chunks)s,
        %(tokens)s, %(traceparent)s,
        CASE WHEN %(state)s <> 'cancelled' THEN %(texts)s::bigint[] ELSE '{}' END,
        CASE WHEN %(state)s = 'cancelled' THEN now() END);

-- name: point
-- The batches that texts wait in from now on, locked in one order as everywhere.
UPDATE embedfleet.{texts} AS t
SET batch_id = w.batch_id
FROM (
    SELECT t.id, u.batch_id
    FROM unnest(%(texts)s::bigint[], %(batches)s::bigint[]) AS u (text_id, batch_id)
    JOIN embedfleet.{texts} AS t ON t.id = u.text_id
    ORDER BY t.id
    FOR NO KEY UPDATE OF t
) AS w
WHERE t.id = w.id;
-- name: count_enqueued
-- The same of all batches that a producer packed at once.
INSERT INTO embedfleet.counter_delta
    (collection_id, job_id, delivery, open_batches, held_batches, queued, tokens, finished_at)
SELECT %(collection_id)s, %(job_id)s, %(delivery)s, o.batches,
    CASE WHEN %(state)s = 'held' THEN o.batches END, o.queued, o.tokens,
    CASE WHEN o.batches IS NULL THEN now() END
FROM (
    SELECT CASE WHEN open THEN %(batches)s::int END AS batches,
        CASE WHEN open THEN %(texts)s::int END AS queued,
        CASE WHEN open THEN %(tokens)s::bigint END AS tokens
    FROM (SELECT %(state)s <> 'cancelled' AS open) AS s
) AS o;

-- name: want
-- How much a job wants by now, and the lane of what it wants next.
UPDATE embedfleet.job
SET wanted_tokens = %(wanted_tokens)s, lane = %(lane)s
WHERE id = %(job_id)s;

-- name: claim
-- Lease what `best` is, to a worker, or to a provider batch: that has no owner, and no heartbeat.
WITH best AS (
    {best}
)
UPDATE embedfleet.batch AS b
SET state = 'leased',
    attempt = b.attempt + 1,
    owner = %(owner)s,
    leased_at = now(),
    lease_until = now() + make_interval(secs => %(lease_seconds)s),
    provider_batch_id = coalesce(%(provider_batch_id)s::bigint, b.provider_batch_id),
    reason = NULL
FROM best
WHERE b.id = best.id
RETURNING b.id, b.attempt, b.errors, b.job_id, b.collection_id, b.priority, b.tokens,
    extract(epoch FROM now() - b.created_at)::float8 AS waited_s, b.traceparent, b.texts;

-- name: by_index
-- Before `claim`, for its transaction: a planner that expects few batches takes any index for as good
-- as the one that has them in order, and sorts what it finds there, which may be the backlog. Where a
-- sort is needed all the same, it looks so dear that PostgreSQL would compile it.
SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true);

-- name: best
-- A part of `claim`: the best pending batch of a queue and some lanes, of no job that this process
-- leaves alone. SKIP LOCKED: claimers never wait for each other.
SELECT id
FROM embedfleet.batch
WHERE state = 'pending' AND delivery = 'direct' AND queue = %(queue)s
    AND priority BETWEEN %(first)s AND %(last)s AND run_after <= now()
    AND job_id <> ALL (%(skipped)s::bigint[])
ORDER BY priority, start_tag, run_after, id
FOR UPDATE SKIP LOCKED
LIMIT 1;

-- name: best_excluding
-- The same, without the spaces that this process lets cool. The spaces with batches that wait are
-- found one after the other in their index, each is asked for its first batch, and only one batch is
-- locked, so that 100,000 batches of a cooling space cost nothing, and neither do collections. Rows
-- are compared, and the order names what is equal: only the index by space gives that.
WITH RECURSIVE waiting AS (
    (
        SELECT space_id, queue
        FROM embedfleet.batch
        WHERE state = 'pending' AND delivery = 'direct'
        ORDER BY space_id, queue, priority, start_tag, run_after, id
        LIMIT 1
    )
    UNION ALL
    SELECT n.space_id, n.queue
    FROM waiting AS w
    CROSS JOIN LATERAL (
        SELECT b.space_id, b.queue
        FROM embedfleet.batch AS b
        WHERE b.state = 'pending' AND b.delivery = 'direct'
            AND (b.space_id, b.queue) > (w.space_id, w.queue)
        ORDER BY b.space_id, b.queue, b.priority, b.start_tag, b.run_after, b.id
        LIMIT 1
    ) AS n
)
SELECT b.id
FROM (
    SELECT w.space_id
    FROM waiting AS w
    CROSS JOIN LATERAL (
        SELECT f.priority, f.start_tag, f.run_after, f.id
        FROM embedfleet.batch AS f
        WHERE (f.space_id, f.queue) >= (w.space_id, %(queue)s)
            AND (f.space_id, f.queue) <= (w.space_id, %(queue)s) AND f.delivery = 'direct'
            AND f.state = 'pending'
            AND f.priority BETWEEN %(first)s AND %(last)s AND f.run_after <= now()
            AND f.job_id <> ALL (%(skipped)s::bigint[])
        ORDER BY f.space_id, f.queue, f.priority, f.start_tag, f.run_after, f.id
        LIMIT 1
    ) AS first
    WHERE w.queue = %(queue)s AND w.space_id <> ALL (%(excluding)s::bigint[])
    ORDER BY first.priority, first.start_tag, first.run_after, first.id
) AS s
CROSS JOIN LATERAL (
    SELECT l.id
    FROM embedfleet.batch AS l
    WHERE (l.space_id, l.queue) >= (s.space_id, %(queue)s)
        AND (l.space_id, l.queue) <= (s.space_id, %(queue)s) AND l.delivery = 'direct'
        AND l.state = 'pending'
        AND l.priority BETWEEN %(first)s AND %(last)s AND l.run_after <= now()
        AND l.job_id <> ALL (%(skipped)s::bigint[])
    ORDER BY l.space_id, l.queue, l.priority, l.start_tag, l.run_after, l.id
    FOR UPDATE SKIP LOCKED
    LIMIT 1
) AS b
LIMIT 1;

-- name: smallest
-- The same: one of the batches of a job with the shortest texts, if it has a text of at most so many
-- tokens.
WITH shortest AS MATERIALIZED (
    SELECT id, texts
    FROM embedfleet.batch
    WHERE job_id = %(job_id)s AND state = 'pending' AND delivery = 'direct' AND queue = %(queue)s
        AND run_after <= now() AND id <> ALL (%(tried)s::bigint[])
    ORDER BY tokens / chunks, id
    LIMIT 20
)
SELECT b.id
FROM shortest AS s
JOIN embedfleet.batch AS b USING (id)
WHERE b.state = 'pending' AND EXISTS (
    SELECT
    FROM unnest(s.texts) AS h (text_id)
    JOIN embedfleet.{texts} AS t ON t.id = h.text_id
    WHERE t.tokens <= %(most)s
)
FOR UPDATE OF b SKIP LOCKED
LIMIT 1;

-- name: next_of_job
-- The same: more batches of a job without a budget and of one lane, of those that come next in the queue,
-- up to as many texts as one may have. Those of others count, so that tenants take turns all the same. What was
-- charged something, or was halved, is left to be taken by itself.
SELECT b.id
FROM embedfleet.batch AS b
WHERE b.id = ANY (ARRAY(
        SELECT w.id
        FROM (
            SELECT n.id, n.job_id, n.suspect, sum(n.chunks) OVER (
                    ORDER BY n.start_tag, n.run_after, n.id
                ) AS texts
            FROM (
                SELECT id, job_id, start_tag, run_after, chunks,
                    errors + crashes > 0 OR parent_id IS NOT NULL AS suspect
                FROM embedfleet.batch
                WHERE state = 'pending' AND delivery = 'direct' AND queue = %(queue)s
                    AND priority = %(priority)s AND run_after <= now()
                ORDER BY start_tag, run_after, id
                LIMIT 64
            ) AS n
        ) AS w
        WHERE w.job_id = %(job_id)s AND NOT w.suspect AND w.texts <= 2048
    ))
    AND b.state = 'pending'
    AND EXISTS (
        SELECT FROM embedfleet.batch_standing AS s
        WHERE s.job_id = %(job_id)s AND s.open AND NOT s.has_budget
    )
FOR UPDATE OF b SKIP LOCKED
LIMIT 15;

-- name: chosen
-- The same: batches that are locked already.
SELECT unnest(%(ids)s::bigint[]) AS id;

-- name: fence
-- The first statement of every way out of a lease, once the collection is shared: no row, and
-- nothing may be written.
SELECT b.texts, s.state AS standing, s.has_budget
FROM embedfleet.batch AS b
JOIN embedfleet.batch_standing AS s USING (job_id)
WHERE b.id = %(id)s AND b.attempt = %(attempt)s AND b.state = 'leased'
FOR UPDATE OF b;

-- name: fence_several
-- The same of batches of one job, locked in one order; those of them whose lease still stands.
SELECT id, texts
FROM embedfleet.batch
WHERE (id, attempt) IN (SELECT * FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]))
    AND state = 'leased'
ORDER BY id
FOR UPDATE;

-- name: fence_expired
-- The fence of the sweeper. A row that its late owner is just settling is skipped. An owner that
-- signed off, or still beats, has not crashed: it was cut off, or gave the batch up.
SELECT b.texts, s.state AS standing, s.has_budget,
    CASE WHEN NOT EXISTS (
        SELECT FROM embedfleet.worker AS w
        WHERE w.id = b.owner AND (w.stopped_at IS NOT NULL OR {alive})
    ) THEN b.crashes + 1 END AS crashes
FROM embedfleet.batch AS b
JOIN embedfleet.batch_standing AS s USING (job_id)
WHERE b.id = %(id)s AND b.state = 'leased' AND b.lease_until < now()
FOR UPDATE OF b SKIP LOCKED;

-- name: release
-- Back to pending, or to where its job stands: held when paused, cancelled when cancelled.
-- Without a delay a batch keeps its place in the queue: behind the others it would wait for hours.
-- What it waits for all the same is then said in words, in the time of this clock. `to_workers`: from
-- provider batches to the workers of its collection, where it has no place until it gets one (`place`).
WITH was AS (
    SELECT {row} FROM embedfleet.batch AS b WHERE b.id = %(id)s
), now AS (
    UPDATE embedfleet.batch AS b
    SET state = %(state)s,
        delivery = CASE WHEN %(to_workers)s THEN 'direct' ELSE b.delivery END,
        lease_until = NULL,
        owner = NULL,
        reserved_usd = NULL,
        run_after = coalesce(now() + make_interval(secs => %(delay_s)s::float8), b.run_after),
        start_tag = CASE
            WHEN %(to_workers)s THEN 'Infinity'
            WHEN %(delay_s)s::float8 IS NOT NULL THEN {behind}
            ELSE b.start_tag
        END,
        errors = b.errors + %(charge)s,
        reason = %(reason)s || coalesce(', until ' || to_char(
            (now() + make_interval(secs => %(wait_s)s::float8)) AT TIME ZONE 'UTC',
            'HH24:MI:SS "UTC"'
        ), ''),
        texts = CASE WHEN %(state)s <> 'cancelled' THEN b.texts ELSE ARRAY[]::bigint[] END,
        finished_at = CASE WHEN %(state)s = 'cancelled' THEN now() END
    WHERE b.id = %(id)s
    RETURNING {row}
), moved AS (
    SELECT -1 AS sign, * FROM was UNION ALL SELECT 1, * FROM now
)
{count};

-- name: lock_leased
-- Those of a provider batch, or some of them, that it has leased.
SELECT id
FROM embedfleet.batch
WHERE provider_batch_id = %(provider_batch_id)s AND state = 'leased'
    AND delivery = 'provider_batch'
    AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]))
FOR UPDATE;

-- name: release_provider_batch
-- Batches that a provider batch has go to where job and space stand: some of them, or all; to wait for
-- the next one, or for the workers of their collection, where they have no place until they get one (`place`).
WITH filed AS (
    SELECT b.id, s.state AS target, {row}
    FROM embedfleet.batch AS b
    JOIN embedfleet.batch_standing AS s USING (job_id)
    WHERE b.provider_batch_id = %(provider_batch_id)s AND b.state = 'leased'
        AND b.delivery = 'provider_batch'
        AND (%(ids)s::bigint[] IS NULL OR b.id = ANY (%(ids)s::bigint[]))
    FOR UPDATE OF b
), was AS (
    SELECT {row} FROM filed AS b
), now AS (
    UPDATE embedfleet.batch AS b
    SET state = f.target,
        delivery = CASE WHEN %(to_workers)s THEN 'direct' ELSE b.delivery END,
        lease_until = NULL,
        run_after = CASE
            WHEN %(delay_s)s::float8 > 0
            THEN now() + make_interval(secs => %(delay_s)s::float8)
            ELSE b.run_after
        END,
        start_tag = CASE WHEN %(to_workers)s THEN 'Infinity' ELSE b.start_tag END,
        reason = %(reason)s,
        texts = CASE WHEN f.target <> 'cancelled' THEN b.texts ELSE ARRAY[]::bigint[] END,
        finished_at = CASE WHEN f.target = 'cancelled' THEN now() END
    FROM filed AS f
    WHERE b.id = f.id
    RETURNING b.id, {row}, b.queue
), moved AS (
    SELECT -1 AS sign, * FROM was UNION ALL SELECT 1, {row} FROM now AS b
), counted AS (
    {count}
)
SELECT id, state, queue FROM now;

-- name: missing
-- The texts of a batch that have no vector yet, in their order.
SELECT h.text_id
FROM unnest(%(texts)s::bigint[]) WITH ORDINALITY AS h (text_id, number)
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = h.text_id)
ORDER BY h.number;

-- name: record_failure
-- One row per text that cannot be embedded; the latest verdict stands. Not for a text that got its
-- vector from another batch, or whose last chunk is gone.
WITH judged AS (
    INSERT INTO embedfleet.failure (collection_id, text_id, code, reason, attempts, job_id)
    SELECT b.collection_id, h.text_id, %(code)s, %(reason)s, b.errors + b.crashes + 1, b.job_id
    FROM embedfleet.batch AS b
    CROSS JOIN unnest(%(texts)s::bigint[]) AS h (text_id)
    WHERE b.id = %(id)s
        AND EXISTS (SELECT FROM embedfleet.{texts} AS t WHERE t.id = h.text_id)
        AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = h.text_id)
    ON CONFLICT (collection_id, text_id) DO UPDATE
    SET code = excluded.code, reason = excluded.reason, attempts = excluded.attempts,
        job_id = excluded.job_id, created_at = now(), retried_by = NULL
    RETURNING collection_id, text_id, {is_new} AS is_new
), counted AS (
    {count_failures}
)
SELECT text_id FROM judged;

-- name: finish
-- Batches that are through keep the numbers of their texts that got a vector, from whomever, and of
-- those that failed: what was deleted before is in neither. These are only looked for where not all
-- got it now (`stored`). A text that was deleted after its part was stored has no vector to be found
-- any more, so what was counted then is the least. They give the numbers of their texts back: they are
-- many and no longer needed.
WITH forgotten AS (
    DELETE FROM embedfleet.awaited_batch WHERE batch_id = ANY (%(ids)s::bigint[])
), was AS (
    SELECT {row} FROM embedfleet.batch AS b WHERE b.id = ANY (%(ids)s::bigint[])
), now AS (
    UPDATE embedfleet.batch AS b
    SET state = %(state)s, lease_until = NULL, finished_at = now(), reason = %(reason)s,
        reserved_usd = NULL, texts = ARRAY[]::bigint[],
        stored = c.stored, chunks = c.stored + %(failed)s
    FROM (
        SELECT m.id,
            CASE
                WHEN m.stored + u.stored >= m.chunks - %(failed)s THEN m.chunks - %(failed)s
                ELSE least(m.chunks - %(failed)s, greatest(m.stored + u.stored, (
                    SELECT count(*)
                    FROM unnest(m.texts) AS h (text_id)
                    JOIN embedfleet.{vectors} AS v USING (text_id)
                )))
            END AS stored
        FROM unnest(%(ids)s::bigint[], %(stored)s::int[]) AS u (id, stored)
        JOIN embedfleet.batch AS m USING (id)
    ) AS c
    WHERE b.id = c.id
    RETURNING {row}
), moved AS (
    SELECT -1 AS sign, * FROM was UNION ALL SELECT 1, * FROM now
)
{count};

-- name: store
-- Texts that got their vector while their batch goes on. What they cost is no longer reserved.
WITH was AS (
    SELECT {row} FROM embedfleet.batch AS b WHERE b.id = %(id)s
), now AS (
    UPDATE embedfleet.batch AS b
    SET stored = least(b.chunks, b.stored + %(vectors)s),
        reserved_usd = b.reserved_usd - least(b.reserved_usd, %(usd)s::numeric)
    WHERE b.id = %(id)s
    RETURNING {row}
), moved AS (
    SELECT -1 AS sign, * FROM was UNION ALL SELECT 1, * FROM now
)
{count};

-- name: divide
-- Some texts of a batch become one of their own, with their share of its tokens if nobody counted
-- them: a half, what goes on without the texts that failed, these, or what a budget does not pay for
-- now. It says why, until it is claimed. `to_workers` is as in `release`. Who waits
-- for the one waits for both; which of the texts are whose is not known, so as many as can be go along.
WITH now AS (
    INSERT INTO embedfleet.batch AS b
        (job_id, collection_id, space_id, queue, delivery, state, priority, start_tag, run_after,
            chunks, tokens, texts, parent_id, traceparent, reason, finished_at)
    SELECT b.job_id, b.collection_id, b.space_id, b.queue,
        CASE WHEN %(to_workers)s THEN 'direct' ELSE b.delivery END, %(state)s, b.priority,
        CASE
            WHEN %(to_workers)s THEN 'Infinity'
            WHEN %(keeps_place)s THEN b.start_tag
            ELSE {behind}
        END,
        CASE WHEN %(keeps_place)s THEN b.run_after ELSE now() END, %(chunks)s,
        coalesce(%(tokens)s::bigint, b.tokens * %(chunks)s / b.chunks),
        CASE
            WHEN %(state)s NOT IN ('cancelled', 'dead') THEN %(texts)s::bigint[]
            ELSE ARRAY[]::bigint[]
        END,
        b.id, b.traceparent, %(reason)s,
        CASE WHEN %(state)s IN ('cancelled', 'dead') THEN now() END
    FROM embedfleet.batch AS b
    WHERE b.id = %(id)s
    RETURNING b.id, {row}
), awaited AS (
    INSERT INTO embedfleet.awaited_batch (batch_id, job_id, owner_id, texts)
    SELECT n.id, a.job_id, a.owner_id, least(a.texts, n.chunks)
    FROM now AS n
    CROSS JOIN embedfleet.awaited_batch AS a
    WHERE a.batch_id = %(id)s AND %(state)s NOT IN ('cancelled', 'dead')
), remaining AS (
    UPDATE embedfleet.awaited_batch AS a
    SET texts = a.texts - least(a.texts, n.chunks)
    FROM now AS n
    WHERE a.batch_id = %(id)s AND %(state)s NOT IN ('cancelled', 'dead')
), moved AS (
    SELECT 1 AS sign, * FROM now
), counted AS (
    {count}
)
SELECT id FROM now;

-- name: shrink
-- The texts that a batch gave to another leave it.
WITH was AS (
    SELECT {row} FROM embedfleet.batch AS b WHERE b.id = %(id)s
), now AS (
    UPDATE embedfleet.batch AS b
    SET chunks = b.chunks - cardinality(%(rest)s::bigint[]),
        tokens = greatest(0, b.tokens - %(tokens)s),
        texts = ARRAY(
            SELECT h.text_id
            FROM unnest(b.texts) WITH ORDINALITY AS h (text_id, number)
            WHERE h.text_id <> ALL (%(rest)s::bigint[])
            ORDER BY h.number
        )
    WHERE b.id = %(id)s
    RETURNING {row}
), moved AS (
    SELECT -1 AS sign, * FROM was UNION ALL SELECT 1, * FROM now
)
{count};

-- name: lock_free
-- Those of some that wait and that nobody has just now: of two who wait for batches in different orders,
-- each would wait for the other.
SELECT id
FROM embedfleet.batch
WHERE id = ANY (%(ids)s::bigint[]) AND state IN ('pending', 'held')
FOR UPDATE SKIP LOCKED;

-- name: align
-- Some that wait, and that the caller has locked, to where their job and space stand. What goes on
-- waits for nothing else, and has no place until it gets one (`place`). The numbers stand there twice: a planner that
-- takes the page for a large part of the table would read all of it.
WITH to_align AS (
    SELECT b.id, s.state AS target, {row}
    FROM embedfleet.batch AS b
    JOIN embedfleet.batch_standing AS s USING (job_id)
    WHERE b.id = ANY (%(ids)s::bigint[]) AND b.state IN ('pending', 'held')
        AND b.state <> s.state
), was AS (
    SELECT {row} FROM to_align AS b
), now AS (
    UPDATE embedfleet.batch AS b
    SET state = m.target,
        run_after = CASE WHEN m.target = 'pending' THEN now() ELSE b.run_after END,
        start_tag = CASE WHEN m.target = 'pending' THEN 'Infinity' ELSE b.start_tag END,
        reason = CASE WHEN m.target <> 'pending' THEN b.reason END,
        texts = CASE WHEN m.target <> 'cancelled' THEN b.texts ELSE ARRAY[]::bigint[] END,
        finished_at = CASE WHEN m.target = 'cancelled' THEN now() END
    FROM to_align AS m
    WHERE b.id = m.id AND b.id = ANY (%(ids)s::bigint[])
    RETURNING b.id, {row}
), moved AS (
    SELECT -1 AS sign, * FROM was UNION ALL SELECT 1, {row} FROM now AS b
), counted AS (
    {count}
)
SELECT id, state FROM now;
