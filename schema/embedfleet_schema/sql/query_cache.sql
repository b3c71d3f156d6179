-- name: find
SELECT embedding::real[], used_at < now() - interval '1 day' AS stale
FROM embedfleet.query_vector
WHERE space_id = %(space_id)s AND sha256 = %(sha256)s;

-- name: touch
-- Once a day at the most: a query that is asked every second is not written every second.
UPDATE embedfleet.query_vector SET used_at = now()
WHERE space_id = %(space_id)s AND sha256 = %(sha256)s;

-- name: remember
INSERT INTO embedfleet.query_vector (space_id, sha256, embedding)
VALUES (%(space_id)s, %(sha256)s, %(embedding)s)
ON CONFLICT DO NOTHING;

-- name: forget
-- What nobody asked for in a month, and the longest unused beyond what is kept of a space.
DELETE FROM embedfleet.query_vector AS q
USING (
    SELECT space_id, sha256, used_at,
        row_number() OVER (PARTITION BY space_id ORDER BY used_at DESC) AS place
    FROM embedfleet.query_vector
) AS ranked
WHERE q.space_id = ranked.space_id AND q.sha256 = ranked.sha256
    AND (ranked.place > %(kept)s OR ranked.used_at < now() - interval '30 days');
