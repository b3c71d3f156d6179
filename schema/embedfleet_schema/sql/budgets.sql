-- name: reserve_alone
-- Who reserves some of a job's budget sees what the one before has reserved. Two jobs may share a
-- lock, which does no harm.
SELECT pg_advisory_xact_lock(%(space)s, (%(job_id)s::bigint %% 2147483647)::int);

-- name: wait_briefly
SELECT set_config('lock_timeout', %(milliseconds)s, true);

-- name: room
-- What of a budget is neither spent nor reserved, and whether answers may still give some of it
-- back. A lease without a reservation was claimed before there was a budget: it is reckoned as one.
SELECT j.budget_usd,
    j.budget_usd - j.unsettled_usd - u.usd - leased.usd - filed.usd AS room,
    leased.leases > 0 AS leased, filed.files > 0 AS filed
FROM embedfleet.job AS j
CROSS JOIN LATERAL (
    SELECT coalesce(sum(usd), 0) AS usd FROM embedfleet.usage WHERE job_id = j.id
) AS u
CROSS JOIN LATERAL (
    SELECT count(*) AS leases,
        coalesce(sum(coalesce(reserved_usd, (%(factor)s::numeric * tokens + %(per_text)s::int * chunks)
            * %(price)s::numeric / 1000000)), 0) AS usd
    FROM embedfleet.batch
    WHERE job_id = j.id AND state = 'leased' AND delivery = 'direct'
        AND id IS DISTINCT FROM %(batch_id)s::bigint
) AS leased
CROSS JOIN LATERAL (
    SELECT count(*) AS files, coalesce(sum((reserved ->> j.id::text)::numeric), 0) AS usd
    FROM embedfleet.provider_batch
    WHERE space_id = %(space_id)s AND state IN ('filing', 'filed') AND reserved ? j.id::text
) AS filed
WHERE j.id = %(job_id)s;

-- name: reserve
UPDATE embedfleet.batch SET reserved_usd = %(usd)s WHERE id = %(id)s;

-- name: counts
-- The tokens of texts, in their order.
SELECT t.id, t.tokens
FROM unnest(%(texts)s::bigint[]) WITH ORDINALITY AS h (text_id, number)
JOIN embedfleet.{texts} AS t ON t.id = h.text_id
ORDER BY h.number;

-- name: settle
-- What an answer cost is no longer reserved. Where the lease is lost, it was put aside with the job.
WITH held AS (
    UPDATE embedfleet.batch
    SET reserved_usd = reserved_usd - least(reserved_usd, %(usd)s::numeric)
    WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'leased'
    RETURNING id
)
UPDATE embedfleet.job
SET unsettled_usd = unsettled_usd - least(unsettled_usd, %(usd)s::numeric)
WHERE id = %(job_id)s AND unsettled_usd > 0 AND NOT EXISTS (SELECT FROM held);

-- name: leave_unsettled
-- A lease whose worker says nothing more: what it had under way may be paid for.
UPDATE embedfleet.job AS j
SET unsettled_usd = j.unsettled_usd + b.reserved_usd
FROM embedfleet.batch AS b
WHERE b.id = %(id)s AND b.reserved_usd > 0 AND j.id = b.job_id;

-- name: leave_provider_batch_unsettled
-- The same of a provider batch that the provider may have answered, and nobody can fetch.
UPDATE embedfleet.job AS j
SET unsettled_usd = j.unsettled_usd + r.usd::numeric
FROM embedfleet.provider_batch AS f
CROSS JOIN LATERAL jsonb_each_text(f.reserved) AS r (job_id, usd)
WHERE f.id = %(provider_batch_id)s AND f.state IN ('filing', 'filed') AND j.id = r.job_id::bigint;

-- name: short_budget
-- The budget of a job that is to stop because too little of it is left for any of its texts, and
-- what of it nobody knows to be spent; no row where somebody gave it another one, or stopped it
-- before.
SELECT budget_usd, unsettled_usd
FROM embedfleet.job
WHERE id = %(job_id)s AND budget_usd = %(budget_usd)s AND paused_at IS NULL AND cancelled_at IS NULL;
