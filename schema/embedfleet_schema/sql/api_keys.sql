-- name: create
INSERT INTO embedfleet.api_key (name, sha256, scopes, collections, per_minute, expires_at)
VALUES (
    %(name)s, %(sha256)s, %(scopes)s, %(collections)s, %(per_minute)s,
    now() + %(expires_s)s * interval '1 s'
)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, scopes, collections, per_minute, created_at, expires_at, revoked_at, used_at,
    coalesce(expires_at <= now(), false) AS is_expired;

-- name: find
-- A key that holds. That it is used is noted once an hour, so that reads stay reads.
SELECT id, name, scopes, collections, per_minute, created_at, expires_at, revoked_at, used_at,
    false AS is_expired, coalesce(used_at < now() - interval '1 hour', true) AS unnoted
FROM embedfleet.api_key
WHERE sha256 = %(sha256)s AND revoked_at IS NULL AND coalesce(expires_at > now(), true);

-- name: note_use
UPDATE embedfleet.api_key SET used_at = date_trunc('hour', now()) WHERE id = %(id)s;

-- name: listed
SELECT id, name, scopes, collections, per_minute, created_at, expires_at, revoked_at, used_at,
    coalesce(expires_at <= now(), false) AS is_expired
FROM embedfleet.api_key
ORDER BY name;

-- name: revoke
UPDATE embedfleet.api_key SET revoked_at = coalesce(revoked_at, now()) WHERE name = %(name)s;

