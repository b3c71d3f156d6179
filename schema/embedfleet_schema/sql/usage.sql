-- name: add
-- One row per writer, so that only threads of one process ever wait for each other, and no longer
-- than until the end of a transaction that does this last.
INSERT INTO embedfleet.usage AS u
    (day, space_id, job_id, worker_id, requests, texts, tokens, usd)
VALUES
    ((now() AT TIME ZONE 'UTC')::date, %(space_id)s, %(job_id)s, %(worker_id)s, %(requests)s,
        %(texts)s, %(tokens)s, %(usd)s)
ON CONFLICT (day, space_id, job_id, worker_id) DO UPDATE
SET requests = u.requests + excluded.requests,
    texts = u.texts + excluded.texts,
    tokens = u.tokens + excluded.tokens,
    usd = coalesce(u.usd + excluded.usd, u.usd, excluded.usd);

-- name: by_day
SELECT u.day, s.provider || '/' || s.model AS model, sum(u.requests)::bigint AS requests,
    sum(u.texts)::bigint AS texts, sum(u.tokens)::bigint AS tokens, sum(u.usd) AS usd
FROM embedfleet.usage AS u
JOIN embedfleet.space AS s ON s.id = u.space_id
WHERE u.day > (now() AT TIME ZONE 'UTC')::date - %(days)s::int
GROUP BY u.day, s.provider, s.model
ORDER BY u.day DESC, model;

-- name: spent
-- What a job has cost, as far as prices were known.
SELECT coalesce(sum(usd), 0) AS usd FROM embedfleet.usage WHERE job_id = %(job_id)s;

-- name: spent_budget
-- The budget of a job that is to stop because that is spent; no row for others.
SELECT budget_usd
FROM embedfleet.job
WHERE id = %(job_id)s AND paused_at IS NULL AND cancelled_at IS NULL
    AND budget_usd <= (SELECT sum(usd) FROM embedfleet.usage WHERE job_id = %(job_id)s);

-- name: unpriced_reason
SELECT format('a worker knows no price of its model and cannot keep its budget; set '
    'EMBEDFLEET_PRICES for the workers, too, then go on with: embedfleet resume %%s', id) AS reason
FROM embedfleet.job
WHERE id = %(job_id)s AND budget_usd IS NOT NULL AND paused_at IS NULL AND cancelled_at IS NULL;

-- name: pause_job
UPDATE embedfleet.job SET paused_at = now(), pause_reason = %(reason)s WHERE id = %(job_id)s;
