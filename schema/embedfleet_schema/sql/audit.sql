-- name: count
-- What is stored against what should be. `missing` has neither vector, failure nor open batch. Where
-- texts stand is asked of those without a vector; of the rest, numbers of sorted keys are compared.
WITH expected AS (
    SELECT t.id AS text_id
    FROM embedfleet.{texts} AS t
    WHERE EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id)
        AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = t.id)
), {judged}, without AS (
    SELECT count(*) AS texts,
        count(*) FILTER (WHERE open) AS waiting,
        count(*) FILTER (WHERE NOT open AND failed) AS failed,
        count(*) FILTER (WHERE NOT (open OR failed)) AS missing
    FROM judged
), counted AS MATERIALIZED (
    SELECT
        (SELECT count(*) FROM embedfleet.{documents}) AS documents,
        (SELECT count(*) FROM embedfleet.{documents} WHERE live_version IS DISTINCT FROM version)
            AS waiting_documents,
        (SELECT count(*) FROM embedfleet.{chunks}) AS chunks,
        (SELECT count(*) FROM embedfleet.{texts} AS t
            WHERE EXISTS (SELECT FROM embedfleet.{chunks} AS c WHERE c.text_id = t.id)) AS texts,
        (SELECT count(*) FROM embedfleet.{vectors}) AS vectors
)
SELECT c.documents, c.waiting_documents, c.chunks, c.texts, c.texts - w.texts AS stored,
    w.waiting, w.failed, w.missing, c.vectors - (c.texts - w.texts) AS extra
FROM counted AS c
CROSS JOIN without AS w;

-- name: next_text
-- The last number of a page of texts.
SELECT max(id)
FROM (
    SELECT id FROM embedfleet.{texts} WHERE id > %(after)s ORDER BY id LIMIT %(limit)s
) AS page;

-- name: next_document
SELECT max(id)
FROM (
    SELECT id FROM embedfleet.{documents} WHERE id > %(after)s ORDER BY id LIMIT %(limit)s
) AS page;

-- name: missing_texts
-- Those of a range of numbers. It stands at each table: a planner does not carry it from one to the
-- other, and a merge would begin at the first row of the collection.
WITH expected AS (
    SELECT t.id AS text_id, t.tokens
    FROM embedfleet.{texts} AS t
    WHERE t.id > %(after)s AND t.id <= %(until)s
        AND EXISTS (
            SELECT FROM embedfleet.{chunks} AS c
            WHERE c.text_id = t.id AND c.text_id > %(after)s AND c.text_id <= %(until)s
        )
        AND NOT EXISTS (
            SELECT FROM embedfleet.{vectors} AS v
            WHERE v.text_id = t.id AND v.text_id > %(after)s AND v.text_id <= %(until)s
        )
), {judged}
SELECT text_id, tokens FROM judged WHERE NOT (stored OR open OR failed);

-- name: extra
-- Vectors and texts that no chunk has, some of those of a range.
(
    SELECT v.text_id
    FROM embedfleet.{vectors} AS v
    WHERE v.text_id > %(after)s AND v.text_id <= %(until)s
        AND NOT EXISTS (
            SELECT FROM embedfleet.{chunks} AS c
            WHERE c.text_id = v.text_id AND c.text_id > %(after)s AND c.text_id <= %(until)s
        )
    LIMIT %(limit)s
)
UNION
(
    SELECT t.id
    FROM embedfleet.{texts} AS t
    WHERE t.id > %(after)s AND t.id <= %(until)s
        AND NOT EXISTS (
            SELECT FROM embedfleet.{chunks} AS c
            WHERE c.text_id = t.id AND c.text_id > %(after)s AND c.text_id <= %(until)s
        )
    LIMIT %(limit)s
)
LIMIT %(limit)s;

-- name: waiting_page
-- Documents that wait, so many of them that they have at most so many chunks; one at least.
SELECT p.id
FROM (
    SELECT d.id, sum(c.chunks) OVER (ORDER BY d.id) - c.chunks AS before
    FROM (
        SELECT id, version, kept
        FROM embedfleet.{documents}
        WHERE id > %(after)s AND live_version IS DISTINCT FROM version
        ORDER BY id
        LIMIT %(limit)s
    ) AS d
    CROSS JOIN LATERAL (
        SELECT CASE WHEN d.kept IS NULL THEN (
            SELECT coalesce(max(position) + 1, 0)
            FROM embedfleet.{chunks}
            WHERE document_id = d.id AND version = d.version
        ) ELSE (
            SELECT count(*) FROM embedfleet.{chunks} WHERE document_id = d.id
        ) END AS chunks
    ) AS c
) AS p
WHERE p.before < %(most)s
ORDER BY p.id;

-- name: lock_waiting
-- Those of them that still do, locked in the order that everyone keeps.
SELECT id, live_version
FROM embedfleet.{documents}
WHERE id = ANY (%(documents)s::bigint[]) AND live_version IS DISTINCT FROM version
ORDER BY id
FOR UPDATE;

-- name: superseded_documents
-- Those of a range whose old chunks stayed behind when a process died right after its commit.
SELECT DISTINCT d.id
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id
WHERE d.id > %(after)s AND d.id <= %(until)s
    AND c.document_id > %(after)s AND c.document_id <= %(until)s
    AND ({in_newest} OR {in_live}) IS NOT TRUE;

-- name: half_removed
-- Those of a range whose removal was cut off.
SELECT id
FROM embedfleet.{documents}
WHERE id > %(after)s AND id <= %(until)s AND digest = '';
