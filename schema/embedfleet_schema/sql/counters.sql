-- name: row
-- A part of the statements that change batches: what of a batch `b` is counted.
b.collection_id, b.job_id, b.delivery, b.state, b.chunks, b.stored, b.tokens, b.finished_at

-- name: count
-- The end of those statements, in the same round trip: what they change in the counters of jobs,
-- in a new row, which nobody waits for. `moved` are the batches as they were (-1) and as they are
-- (+1). Vectors that batches of one job got are counted along.
INSERT INTO embedfleet.counter_delta
    (collection_id, job_id, delivery, open_batches, held_batches, queued, tokens, embedded, failed,
        finished_at, vectors)
SELECT d.*
FROM (
    SELECT m.collection_id, m.job_id, m.delivery,
        nullif(sum(sign) FILTER (WHERE o.open), 0) AS open_batches,
        nullif(sum(sign) FILTER (WHERE m.state = 'held'), 0) AS held_batches,
        nullif(sum(sign * (m.chunks - m.stored)) FILTER (WHERE o.open), 0) AS queued,
        nullif(sum(sign * (m.tokens * (m.chunks - m.stored) / m.chunks)) FILTER (WHERE o.open), 0)
            AS tokens,
        nullif(sum(sign * CASE m.state WHEN 'done' THEN m.chunks ELSE m.stored END), 0) AS embedded,
        nullif(sum(sign * (m.chunks - m.stored)) FILTER (WHERE m.state = 'dead'), 0) AS failed,
        max(m.finished_at) AS finished_at,
        nullif(%(vectors)s::bigint, 0) AS vectors
    FROM moved AS m
    CROSS JOIN LATERAL (SELECT m.state IN ('pending', 'held', 'leased') AS open) AS o
    GROUP BY m.collection_id, m.job_id, m.delivery
) AS d
WHERE num_nonnulls(d.open_batches, d.held_batches, d.queued, d.tokens, d.embedded, d.failed,
    d.vectors) > 0;

-- name: is_new
-- A part of other statements: whether an upsert made the row.
(xmax = 0)

-- name: count_failures
-- The same: failures that are there now (`judged`), and were not before.
INSERT INTO embedfleet.counter_delta (collection_id, failures)
SELECT collection_id, count(*) FROM judged WHERE is_new GROUP BY collection_id;

-- name: count_forgotten
-- The same: failures that were removed (`gone`).
INSERT INTO embedfleet.counter_delta (collection_id, failures)
SELECT collection_id, -count(*) FROM gone GROUP BY collection_id;

-- name: count_window
-- What a producer's window added to its collection.
INSERT INTO embedfleet.counter_delta (collection_id, documents, chunks, vectors)
VALUES (%(collection_id)s, nullif(%(documents)s::int, 0), %(chunks)s, nullif(%(vectors)s::int, 0));

-- name: of_collections
-- A part of other statements: what collections hold, as it was added up and as it changed since. The
-- changes are summed by themselves: sums of int are bigint and quick, those of bigint are numeric.
SELECT collection_id, coalesce(sum(documents), 0)::bigint AS documents,
    coalesce(sum(live_documents), 0)::bigint AS live_documents,
    coalesce(sum(chunks), 0)::bigint AS chunks, coalesce(sum(vectors), 0)::bigint AS vectors,
    coalesce(sum(failures), 0)::bigint AS failures
FROM (
    SELECT collection_id, documents, live_documents, chunks, vectors, failures
    FROM embedfleet.collection_counter
    UNION ALL
    SELECT collection_id, sum(documents), sum(live_documents), sum(chunks), sum(vectors),
        sum(failures)
    FROM embedfleet.counter_delta
    GROUP BY collection_id
) AS k
GROUP BY collection_id

-- name: of_jobs
-- The same of the batches of jobs.
SELECT job_id, delivery, coalesce(sum(open_batches), 0)::bigint AS open_batches,
    coalesce(sum(held_batches), 0)::bigint AS held_batches,
    coalesce(sum(queued), 0)::bigint AS queued, coalesce(sum(tokens), 0)::bigint AS tokens,
    coalesce(sum(embedded), 0)::bigint AS embedded, coalesce(sum(failed), 0)::bigint AS failed
FROM (
    SELECT job_id, delivery, open_batches, held_batches, queued, tokens, embedded, failed
    FROM embedfleet.job_counter
    UNION ALL
    SELECT job_id, delivery, sum(open_batches), sum(held_batches), sum(queued), sum(tokens)::bigint,
        sum(embedded), sum(failed)
    FROM embedfleet.counter_delta
    WHERE job_id IS NOT NULL
    GROUP BY job_id, delivery
) AS k
GROUP BY job_id, delivery

-- name: fold
-- A page of changes is added up. Those of what was dropped or removed are left out.
WITH page AS (
    DELETE FROM embedfleet.counter_delta
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM embedfleet.counter_delta LIMIT %(limit)s))
    RETURNING *
), collections AS (
    INSERT INTO embedfleet.collection_counter AS k
        (collection_id, documents, live_documents, chunks, vectors, failures)
    SELECT p.collection_id, coalesce(sum(p.documents), 0), coalesce(sum(p.live_documents), 0),
        coalesce(sum(p.chunks), 0), coalesce(sum(p.vectors), 0), coalesce(sum(p.failures), 0)
    FROM page AS p
    JOIN embedfleet.collection AS c ON c.id = p.collection_id
    WHERE num_nonnulls(p.documents, p.live_documents, p.chunks, p.vectors, p.failures) > 0
    GROUP BY p.collection_id
    ORDER BY p.collection_id
    ON CONFLICT (collection_id) DO UPDATE
    SET documents = k.documents + excluded.documents,
        live_documents = k.live_documents + excluded.live_documents,
        chunks = k.chunks + excluded.chunks,
        vectors = k.vectors + excluded.vectors,
        failures = k.failures + excluded.failures
), jobs AS (
    INSERT INTO embedfleet.job_counter AS k
        (job_id, delivery, open_batches, held_batches, queued, tokens, embedded, failed, finished_at)
    SELECT p.job_id, p.delivery, coalesce(sum(p.open_batches), 0), coalesce(sum(p.held_batches), 0),
        coalesce(sum(p.queued), 0), coalesce(sum(p.tokens), 0), coalesce(sum(p.embedded), 0),
        coalesce(sum(p.failed), 0), max(p.finished_at)
    FROM page AS p
    JOIN embedfleet.job AS j ON j.id = p.job_id
    GROUP BY p.job_id, p.delivery
    ORDER BY p.job_id, p.delivery
    ON CONFLICT (job_id, delivery) DO UPDATE
    SET open_batches = k.open_batches + excluded.open_batches,
        held_batches = k.held_batches + excluded.held_batches,
        queued = k.queued + excluded.queued,
        tokens = k.tokens + excluded.tokens,
        embedded = k.embedded + excluded.embedded,
        failed = k.failed + excluded.failed,
        finished_at = greatest(k.finished_at, excluded.finished_at)
)
SELECT count(*) AS folded FROM page;

-- name: differences
-- A part of the others: what rows say beyond the counters of one collection and its jobs, as changes
-- that would set them right. Rows and counters are of the same moment, so work goes on meanwhile.
SELECT t.collection_id, NULL::bigint AS job_id, NULL::text AS delivery, NULL::bigint AS open_batches,
    NULL::bigint AS held_batches, NULL::bigint AS queued, NULL::bigint AS tokens,
    NULL::bigint AS embedded, NULL::bigint AS failed,
    nullif(t.documents - coalesce(k.documents, 0), 0) AS documents,
    nullif(t.live_documents - coalesce(k.live_documents, 0), 0) AS live_documents,
    nullif(t.chunks - coalesce(k.chunks, 0), 0) AS chunks,
    nullif(t.vectors - coalesce(k.vectors, 0), 0) AS vectors,
    nullif(t.failures - coalesce(k.failures, 0), 0) AS failures
FROM (
    SELECT %(collection_id)s::bigint AS collection_id, count(*) AS documents,
        count(live_version) AS live_documents,
        (SELECT count(*) FROM embedfleet.{chunks}) AS chunks,
        (SELECT count(*) FROM embedfleet.{vectors}) AS vectors,
        (SELECT count(*) FROM embedfleet.failure WHERE collection_id = %(collection_id)s)
            AS failures
    FROM embedfleet.{documents}
) AS t
LEFT JOIN (
    {of_collections}
) AS k USING (collection_id)
UNION ALL
SELECT %(collection_id)s, job_id, delivery,
    nullif(coalesce(t.open_batches, 0) - coalesce(k.open_batches, 0), 0),
    nullif(coalesce(t.held_batches, 0) - coalesce(k.held_batches, 0), 0),
    nullif(coalesce(t.queued, 0) - coalesce(k.queued, 0), 0),
    nullif(coalesce(t.tokens, 0) - coalesce(k.tokens, 0), 0),
    nullif(coalesce(t.embedded, 0) - coalesce(k.embedded, 0), 0),
    nullif(coalesce(t.failed, 0) - coalesce(k.failed, 0), 0),
    NULL, NULL, NULL, NULL, NULL
FROM (
    SELECT job_id, delivery, sum(open_batches)::bigint AS open_batches,
        sum(held_batches)::bigint AS held_batches, sum(queued)::bigint AS queued,
        sum(tokens)::bigint AS tokens, sum(embedded)::bigint AS embedded,
        sum(failed)::bigint AS failed
    FROM (
        SELECT job_id, delivery, 0 AS open_batches, 0 AS held_batches, 0 AS queued, 0 AS tokens,
            removed_embedded AS embedded, removed_failed AS failed
        FROM embedfleet.job_counter
        UNION ALL
        SELECT b.job_id, b.delivery, o.open::int, (b.state = 'held')::int,
            CASE WHEN o.open THEN b.chunks - b.stored END,
            CASE WHEN o.open THEN b.tokens * (b.chunks - b.stored) / b.chunks END,
            CASE b.state WHEN 'done' THEN b.chunks ELSE b.stored END,
            CASE b.state WHEN 'dead' THEN b.chunks - b.stored END
        FROM embedfleet.batch AS b
        CROSS JOIN LATERAL (SELECT b.state IN ('pending', 'held', 'leased') AS open) AS o
        WHERE b.collection_id = %(collection_id)s
    ) AS r
    WHERE job_id IN (
        SELECT id FROM embedfleet.job WHERE collection_id = %(collection_id)s
    )
    GROUP BY job_id, delivery
) AS t
FULL JOIN (
    SELECT *
    FROM (
        {of_jobs}
    ) AS a
    WHERE job_id IN (
        SELECT id FROM embedfleet.job WHERE collection_id = %(collection_id)s
    )
) AS k USING (job_id, delivery)

-- name: check
-- How many counters are wrong.
SELECT coalesce(sum(num_nonnulls(open_batches, held_batches, queued, tokens, embedded, failed,
    documents, live_documents, chunks, vectors, failures)), 0)::int AS miscounted
FROM (
    {differences}
) AS d;

-- name: repair
INSERT INTO embedfleet.counter_delta
    (collection_id, job_id, delivery, open_batches, held_batches, queued, tokens, embedded, failed,
        documents, live_documents, chunks, vectors, failures)
SELECT *
FROM (
    {differences}
) AS d
WHERE num_nonnulls(open_batches, held_batches, queued, tokens, embedded, failed, documents,
    live_documents, chunks, vectors, failures) > 0;
