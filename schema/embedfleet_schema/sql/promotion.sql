-- name: to_promote
-- Those of some batches of a later lane that wait, locked in one order against whoever promotes texts
-- of them at the same time. Whoever claims one passes over it: the caller holds it.
SELECT b.id, b.state, b.texts
FROM embedfleet.batch AS b
WHERE b.id = ANY (%(ids)s::bigint[]) AND b.state IN ('pending', 'held') AND b.delivery = 'direct'
    AND b.priority > %(priority)s
ORDER BY b.id
FOR NO KEY UPDATE;

-- name: promote
-- They are charged to whoever wanted them sooner.
UPDATE embedfleet.batch AS b
SET priority = %(priority)s, start_tag = n.start_tag
FROM unnest(%(ids)s::bigint[], %(start_tags)s::float8[]) AS n (id, start_tag)
WHERE b.id = n.id AND b.id = ANY (%(ids)s::bigint[]);
