-- name: find
SELECT k.files, k.texts, k.vectors
FROM embedfleet.space_check AS k
JOIN embedfleet.space AS s ON s.id = k.space_id
WHERE s.fingerprint = %(fingerprint)s;

-- name: record
-- Of two workers that record at once, the first one does; the other is compared with it.
INSERT INTO embedfleet.space_check (space_id, files, texts, vectors)
SELECT id, %(files)s, %(texts)s, %(vectors)s
FROM embedfleet.space
WHERE fingerprint = %(fingerprint)s
ON CONFLICT (space_id) DO NOTHING;

-- name: collections
-- The newest ones of a space: where a thousand tenants share a model, not all of them are asked.
SELECT c.id
FROM embedfleet.collection AS c
JOIN embedfleet.space AS s ON s.id = c.space_id
WHERE s.fingerprint = %(fingerprint)s
ORDER BY c.id DESC
LIMIT 16;

-- name: stored
-- The first that came. The inner limit keeps it to a few look-ups.
SELECT t.content, t.context, v.embedding::real[] AS embedding
FROM (SELECT text_id, embedding FROM embedfleet.{vectors} ORDER BY text_id LIMIT %(count)s) AS v
JOIN embedfleet.{texts} AS t ON t.id = v.text_id;
