-- name: siblings
-- Other collections of the space, the newest first: their vectors are what ours would be.
SELECT id
FROM embedfleet.collection
WHERE space_id = %(space_id)s AND id <> %(collection_id)s
ORDER BY id DESC
LIMIT %(limit)s;

-- name: count
-- How many texts have their vector in a sibling alone.
SELECT count(*) AS texts
FROM unnest(%(hashes)s::bytea[]) AS w (sha256)
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.sha256 = w.sha256)
    AND ({held});

-- name: held
-- A part of `count`, once per sibling.
EXISTS (SELECT FROM embedfleet.{sibling} AS s WHERE s.sha256 = w.sha256);

-- name: copy
-- Take over what a sibling has, under our own claim. Sorted by hash and checked for a chunk as a
-- commit does.
INSERT INTO embedfleet.{vectors} (sha256, embedding, batch_id, attempt)
SELECT s.sha256, s.embedding, %(id)s, %(attempt)s
FROM embedfleet.{sibling} AS s
WHERE s.sha256 = ANY (%(hashes)s::bytea[])
    AND EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.sha256 = s.sha256)
ORDER BY s.sha256
ON CONFLICT (sha256) DO NOTHING
RETURNING sha256;
