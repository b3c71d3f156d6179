-- name: siblings
-- Other collections of the space that let theirs be taken, the newest first: their vectors are what
-- ours would be, in the precision that ours demands. Rows are compared: a planner that takes a space
-- for common goes through the collections of all others.
SELECT id
FROM embedfleet.collection
WHERE (space_id, id) >= (%(space_id)s, 0) AND (space_id, id) < (%(space_id)s + 1, 0)
    AND id <> %(collection_id)s AND reuse = 'space'
    AND (%(precision)s::text IS NULL OR precision = %(precision)s)
ORDER BY space_id DESC, id DESC
LIMIT %(limit)s;

-- name: count
-- How many texts have their vector in a sibling alone.
SELECT count(*) AS texts
FROM unnest(%(hashes)s::uuid[]) AS w (hash)
WHERE NOT EXISTS (
        SELECT
        FROM embedfleet.{texts} AS t
        JOIN embedfleet.{vectors} AS v ON v.text_id = t.id
        WHERE t.hash = w.hash
    )
    AND ({held});

-- name: held
-- A part of `count`, once per sibling.
EXISTS (
    SELECT
    FROM embedfleet.{other_texts} AS o
    JOIN embedfleet.{other_vectors} AS s ON s.text_id = o.id
    WHERE o.hash = w.hash
);

-- name: copy
-- Take over what a sibling has, under our own claim; of the very same text, whatever its hash. Sorted
-- as a commit sorts.
INSERT INTO embedfleet.{vectors} (text_id, embedding)
SELECT t.id, s.embedding
FROM embedfleet.{texts} AS t
JOIN embedfleet.{other_texts} AS o ON o.hash = t.hash AND o.content = t.content
    AND o.context IS NOT DISTINCT FROM t.context
JOIN embedfleet.{other_vectors} AS s ON s.text_id = o.id
WHERE t.id = ANY (%(texts)s::bigint[])
ORDER BY t.id
ON CONFLICT (text_id) DO NOTHING
RETURNING text_id;
