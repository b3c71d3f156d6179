-- name: insert_vectors
-- Sorted by their numbers, so that two commits sharing texts cannot deadlock. A text whose last chunk was
-- deleted in the meantime is left out, or its vector would be an orphan.
INSERT INTO embedfleet.{vectors} (text_id, embedding)
SELECT u.text_id, u.embedding
FROM unnest(%(texts)s::bigint[], %(vectors)s) AS u (text_id, embedding)
WHERE EXISTS (SELECT FROM embedfleet.{texts} AS t WHERE t.id = u.text_id)
ORDER BY u.text_id
ON CONFLICT (text_id) DO NOTHING;

-- name: insert_new_vectors
-- The same of texts that are known to be there, where none has a vector: half the work, and an error if
-- one has. They come sorted by their numbers.
INSERT INTO embedfleet.{vectors} (text_id, embedding)
SELECT * FROM unnest(%(texts)s::bigint[], %(vectors)s);

-- name: count_there
-- How many of some texts nobody has deleted.
SELECT count(*) FROM embedfleet.{texts} WHERE id = ANY (%(texts)s::bigint[]);

-- name: forget_cured
-- Failures of texts that have their vector now: another batch had given them up. Most collections have
-- none at all.
WITH gone AS (
    DELETE FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s AND text_id = ANY (%(texts)s::bigint[])
        AND EXISTS (
            SELECT FROM embedfleet.failure
            WHERE collection_id = %(collection_id)s AND text_id IS NOT NULL
        )
    RETURNING collection_id
)
{count_forgotten};
