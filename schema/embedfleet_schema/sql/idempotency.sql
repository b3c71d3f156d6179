-- name: forget
-- What is a day old counts no more.
DELETE FROM embedfleet.idempotency_key
WHERE api_key_id = %(api_key_id)s AND created_at < now() - interval '1 day';

-- name: begin
-- One row where this call has to do the work: nobody did, or who began it has died.
INSERT INTO embedfleet.idempotency_key AS k (api_key_id, sha256, request, busy_until)
VALUES (%(api_key_id)s, %(sha256)s, %(request)s, now() + %(lease_s)s * interval '1 s')
ON CONFLICT (api_key_id, sha256) DO UPDATE SET busy_until = excluded.busy_until
WHERE k.body IS NULL AND k.busy_until < now() AND k.request = excluded.request
RETURNING true;

-- name: found
SELECT request, body, counts, job_id
FROM embedfleet.idempotency_key
WHERE api_key_id = %(api_key_id)s AND sha256 = %(sha256)s;

-- name: extend
UPDATE embedfleet.idempotency_key SET busy_until = now() + %(lease_s)s * interval '1 s'
WHERE api_key_id = %(api_key_id)s AND sha256 = %(sha256)s AND body IS NULL;

-- name: finish
UPDATE embedfleet.idempotency_key
SET body = %(body)s, counts = %(counts)s, job_id = %(job_id)s
WHERE api_key_id = %(api_key_id)s AND sha256 = %(sha256)s;

-- name: give_up
DELETE FROM embedfleet.idempotency_key
WHERE api_key_id = %(api_key_id)s AND sha256 = %(sha256)s AND body IS NULL;
