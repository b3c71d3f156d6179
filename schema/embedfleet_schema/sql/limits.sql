-- name: limits
SELECT provider, account, name, dimension, amount
FROM embedfleet.rate_limit
ORDER BY provider, name, account, dimension;

-- name: groups
SELECT provider, model, name
FROM embedfleet.limit_group
ORDER BY provider, name, model;

-- name: set
INSERT INTO embedfleet.rate_limit (provider, account, name, dimension, amount)
VALUES (%(provider)s, %(account)s, %(name)s, %(dimension)s, %(amount)s)
ON CONFLICT (provider, account, name, dimension)
DO UPDATE SET amount = excluded.amount, updated_at = now();

-- name: clear
DELETE FROM embedfleet.rate_limit
WHERE provider = %(provider)s AND name = %(name)s
    AND (%(account)s::text IS NULL OR account = %(account)s)
RETURNING dimension;

-- name: join
INSERT INTO embedfleet.limit_group (provider, model, name)
VALUES (%(provider)s, %(model)s, %(name)s)
ON CONFLICT (provider, model) DO UPDATE SET name = excluded.name;

-- name: leave
DELETE FROM embedfleet.limit_group
WHERE provider = %(provider)s AND model = %(model)s
RETURNING name;
