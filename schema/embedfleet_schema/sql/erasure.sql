-- name: traces
-- What tells where the texts of some documents are: of all their versions, drafts too.
SELECT DISTINCT t.id, t.hash, sha256(convert_to(t.content, 'UTF8'))
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id
JOIN embedfleet.{texts} AS t ON t.id = c.text_id
WHERE d.key = ANY (%(keys)s);

-- name: unused
-- A page of texts that no chunk has: what an interrupted removal left.
SELECT t.id
FROM embedfleet.{texts} AS t
WHERE NOT EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id)
LIMIT %(limit)s;

-- name: shared
-- Those of some texts that other documents have, too.
SELECT DISTINCT c.text_id
FROM embedfleet.{chunks} AS c
JOIN embedfleet.{documents} AS d ON d.id = c.document_id
WHERE c.text_id = ANY (%(texts)s::bigint[]) AND d.key <> ALL (%(keys)s);

-- name: documents
SELECT count(*) FROM embedfleet.{documents} WHERE key = ANY (%(keys)s);

-- name: chunks
-- Of all versions.
SELECT count(*)
FROM embedfleet.{chunks} AS c
JOIN embedfleet.{documents} AS d ON d.id = c.document_id
WHERE d.key = ANY (%(keys)s);

-- name: texts
SELECT count(*) FROM embedfleet.{texts} WHERE id = ANY (%(texts)s::bigint[]);

-- name: vectors
SELECT count(*) FROM embedfleet.{vectors} WHERE text_id = ANY (%(texts)s::bigint[]);

-- name: failures
-- Of documents by their keys, and of their texts.
SELECT count(*)
FROM embedfleet.failure
WHERE collection_id = %(collection_id)s
    AND (document_key = ANY (%(keys)s) OR text_id = ANY (%(texts)s::bigint[]));

-- name: queries
-- Vectors of queries that were one of the texts.
SELECT count(*) FROM embedfleet.query_vector WHERE sha256 = ANY (%(digests)s);

-- name: requests
-- Queries that wait for a worker and are one of the texts.
SELECT count(*)
FROM embedfleet.query_request
WHERE sha256(convert_to(text, 'UTF8')) = ANY (%(digests)s);

-- name: remove_queries
DELETE FROM embedfleet.query_vector WHERE sha256 = ANY (%(digests)s);

-- name: remove_requests
DELETE FROM embedfleet.query_request WHERE sha256(convert_to(text, 'UTF8')) = ANY (%(digests)s);

-- name: filed
-- Provider batches that are not over and whose file holds one of the texts.
SELECT DISTINCT p.id, p.account, p.input_file_id, p.remote_batch_id
FROM embedfleet.provider_batch AS p
JOIN embedfleet.batch AS b ON b.provider_batch_id = p.id
WHERE p.state IN ('filing', 'filed') AND b.collection_id = %(collection_id)s
    AND b.texts && %(texts)s::bigint[]
ORDER BY p.id;

-- name: elsewhere
-- Whether a collection has one of the texts, too.
SELECT EXISTS (SELECT FROM embedfleet.{texts} WHERE hash = ANY (%(hashes)s));

-- name: vacuum
-- The old rows of a table, which a transaction that is open may still see, and their entries in indexes.
VACUUM {table};
