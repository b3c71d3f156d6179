-- name: virtual_time
-- A part of `reserve`: how far the service of a space, a queue and a lane has come, as the start tag of
-- its first batch that has a place. Where none waits, it is not before what was reserved there, nor before what waits
-- for the same workers, or was reserved for them. Rows are compared, and the orders name what is equal:
-- only the index of the claim gives that.
coalesce(
    (
        SELECT b.start_tag
        FROM embedfleet.batch AS b
        WHERE (b.space_id, b.queue, b.priority) >= (%(space_id)s, %(queue)s, %(priority)s)
            AND (b.space_id, b.queue, b.priority) <= (%(space_id)s, %(queue)s, %(priority)s)
            AND b.state = 'pending' AND b.delivery = 'direct' AND b.run_after <= now()
            AND b.start_tag < 'Infinity'
        ORDER BY b.space_id, b.queue, b.priority, b.start_tag, b.run_after, b.id
        LIMIT 1
    ),
    greatest(
        (
            SELECT max(o.finish_tag)
            FROM embedfleet.tenant_share AS o
            WHERE o.space_id = %(space_id)s AND o.queue = %(queue)s AND o.priority = %(priority)s
        ),
        coalesce(
            (
                SELECT b.start_tag
                FROM embedfleet.batch AS b
                WHERE (b.queue, b.priority) >= (%(queue)s, %(priority)s)
                    AND (b.queue, b.priority) <= (%(queue)s, %(priority)s)
                    AND b.state = 'pending' AND b.delivery = 'direct' AND b.run_after <= now()
                    AND b.start_tag < 'Infinity'
                ORDER BY b.queue, b.priority, b.start_tag, b.run_after, b.id
                LIMIT 1
            ),
            (
                SELECT max(o.finish_tag)
                FROM embedfleet.tenant_share AS o
                WHERE o.queue = %(queue)s AND o.priority = %(priority)s
            )
        )
    ),
    0
)

-- name: reserve
-- Start-time fair queuing (Goyal, Vin, Cheng 1996): the next batches of a tenant start where its last
-- ones finish, or where the service is by now, whichever is later, and finish after their tokens
-- divided by its weight. The row stays locked until the transaction ends, so this comes last.
INSERT INTO embedfleet.tenant_share AS s (space_id, queue, priority, tenant, finish_tag)
VALUES (%(space_id)s, %(queue)s, %(priority)s, %(tenant)s,
    {virtual_time} + %(tokens)s::float8 / {weight})
ON CONFLICT (space_id, queue, priority, tenant) DO UPDATE
SET finish_tag = greatest(excluded.finish_tag, s.finish_tag + %(tokens)s::float8 / {weight}),
    used_at = now()
RETURNING finish_tag, {weight} AS weight;

-- name: weight
-- A part of `reserve`: the weight of the tenant.
coalesce((SELECT w.weight FROM embedfleet.tenant AS w WHERE w.name = %(tenant)s), 1)

-- name: to_place
-- Batches that workers may claim from now on, with whose turn they wait for.
SELECT b.id, b.space_id, b.queue, b.priority, j.tenant, b.tokens
FROM embedfleet.batch AS b
JOIN embedfleet.job AS j ON j.id = b.job_id
WHERE b.id = ANY (%(ids)s::bigint[]) AND b.state = 'pending' AND b.delivery = 'direct'
ORDER BY b.space_id, b.queue, b.priority, j.tenant, b.id;

-- name: place
UPDATE embedfleet.batch AS b
SET start_tag = n.start_tag
FROM unnest(%(ids)s::bigint[], %(start_tags)s::float8[]) AS n (id, start_tag)
WHERE b.id = n.id AND b.id = ANY (%(ids)s::bigint[]);

-- name: behind
-- A part of other statements: where a batch `b` stands that goes behind the others of its tenant.
coalesce((
    SELECT s.finish_tag
    FROM embedfleet.tenant_share AS s
    JOIN embedfleet.job AS j ON j.id = b.job_id
    WHERE s.space_id = b.space_id AND s.queue = b.queue AND s.priority = b.priority
        AND s.tenant = j.tenant
), b.start_tag)

-- name: set_weight
INSERT INTO embedfleet.tenant (name, weight) VALUES (%(name)s, %(weight)s)
ON CONFLICT (name) DO UPDATE SET weight = excluded.weight;

-- name: clear_weight
DELETE FROM embedfleet.tenant WHERE name = %(name)s;

-- name: tenants
-- Those with a weight that was set, and those whose jobs wait, with what is open of them.
SELECT coalesce(t.name, o.tenant) AS name, coalesce(t.weight, 1) AS weight, coalesce(o.jobs, 0) AS jobs,
    coalesce(o.queued, 0) AS queued, coalesce(o.tokens, 0) AS tokens
FROM embedfleet.tenant AS t
FULL JOIN (
    SELECT j.tenant, count(DISTINCT j.id) AS jobs, sum(k.queued)::bigint AS queued,
        sum(k.tokens)::bigint AS tokens
    FROM (
        {of_jobs}
    ) AS k
    JOIN embedfleet.job AS j ON j.id = k.job_id
    WHERE k.open_batches > 0
    GROUP BY j.tenant
) AS o ON o.tenant = t.name
ORDER BY 1;
