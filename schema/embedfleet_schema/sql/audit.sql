-- name: count
-- What is stored against what should be. `missing` has neither vector, failure nor open batch.
WITH expected AS (
    SELECT t.id AS text_id
    FROM embedfleet.{texts} AS t
    WHERE EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id)
), {judged}
SELECT
    (SELECT count(*) FROM embedfleet.{documents}) AS documents,
    (SELECT count(*) FROM embedfleet.{documents} WHERE live_version IS DISTINCT FROM version)
        AS waiting_documents,
    (SELECT count(*) FROM embedfleet.{chunks}) AS chunks,
    count(*) AS texts,
    count(*) FILTER (WHERE stored) AS stored,
    count(*) FILTER (WHERE NOT stored AND open) AS waiting,
    count(*) FILTER (WHERE NOT stored AND NOT open AND failed) AS failed,
    count(*) FILTER (WHERE NOT (stored OR open OR failed)) AS missing,
    (SELECT count(*) FROM embedfleet.{vectors} AS v
        WHERE NOT EXISTS (SELECT FROM expected AS e WHERE e.text_id = v.text_id)) AS extra
FROM judged;

-- name: missing_texts
WITH expected AS (
    SELECT t.id AS text_id, t.tokens
    FROM embedfleet.{texts} AS t
    WHERE EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id)
), {judged}
SELECT text_id, tokens FROM judged WHERE NOT (stored OR open OR failed);

-- name: extra
-- Vectors and texts that no chunk has.
SELECT v.text_id
FROM embedfleet.{vectors} AS v
WHERE NOT EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = v.text_id)
UNION
SELECT t.id
FROM embedfleet.{texts} AS t
WHERE NOT EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id);

-- name: lock_waiting_page
-- Documents that wait, a page at a time, locked in the order that everyone keeps.
SELECT d.id
FROM embedfleet.{documents} AS d
WHERE d.id > %(after)s AND d.live_version IS DISTINCT FROM d.version
ORDER BY d.id
LIMIT 5000
FOR UPDATE;

-- name: superseded_documents
-- Documents whose old chunks stayed behind when a process died right after its commit.
SELECT DISTINCT d.id
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id
WHERE c.version <> d.version AND c.version IS DISTINCT FROM d.live_version;
