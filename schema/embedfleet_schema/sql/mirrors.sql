-- name: moment
-- When a mirror begins. Its caller owns the collection: what others stored before is there to be seen,
-- and what they store from now on has a later time.
SELECT statement_timestamp();

-- name: begin
INSERT INTO embedfleet.mirror (job_id, since) VALUES (%(job_id)s, %(since)s) ON CONFLICT DO NOTHING;

-- name: begin_sightings
-- A first one without a document. Where it is gone, the others may be, too.
INSERT INTO embedfleet.sighting (collection_id, document_id, job_id)
VALUES (%(collection_id)s, 0, %(job_id)s);

-- name: runs
-- A part of others: mirrors of the collection that run.
SELECT m.job_id, m.since
FROM embedfleet.mirror AS m
JOIN embedfleet.job AS j ON j.id = m.job_id
WHERE m.ended_at IS NULL AND j.collection_id = %(collection_id)s AND (
    j.id = %(job_id)s
    OR j.loaded_at IS NULL AND j.interrupted_at IS NULL AND j.loading_until >= now()
);

-- name: horizon
-- Since when a document must not have been seen to be gone: what a mirror beside this one has seen stays.
SELECT min(since) FROM ({runs}) AS r;

-- name: is_watched
-- Whether a mirror has to know what this job comes by: its own, or one beside it.
SELECT EXISTS ({runs});

-- name: see
-- Documents that are as they were. Returns how many of the keys there are.
INSERT INTO embedfleet.sighting (collection_id, document_id, job_id)
SELECT %(collection_id)s, id, %(job_id)s
FROM embedfleet.{documents}
WHERE key = ANY (%(keys)s)
ON CONFLICT (collection_id, document_id, job_id) DO UPDATE SET seen_at = excluded.seen_at;

-- name: see_objects
-- The same of objects that were not read again.
INSERT INTO embedfleet.sighting (collection_id, document_id, job_id)
SELECT %(collection_id)s, d.id, %(job_id)s
FROM embedfleet.object AS o
CROSS JOIN LATERAL unnest(o.documents) AS r
JOIN embedfleet.{documents} AS d ON d.id >= lower(r) AND d.id < upper(r)
WHERE o.collection_id = %(collection_id)s AND o.source = ANY (%(sources)s)
ON CONFLICT (collection_id, document_id, job_id) DO UPDATE SET seen_at = excluded.seen_at;

-- name: unseen
-- A part of others: a document that nobody stored, saw or rejected since a mirror began, if nothing of
-- what was seen is lost.
d.updated_at < %(since)s
    AND EXISTS (
        SELECT
        FROM embedfleet.sighting
        WHERE collection_id = %(collection_id)s AND document_id = 0 AND job_id = %(mirror)s
    )
    AND NOT EXISTS (
        SELECT
        FROM embedfleet.sighting AS s
        WHERE s.collection_id = %(collection_id)s AND s.document_id = d.id
            AND s.seen_at >= %(since)s
    )
    AND NOT EXISTS (
        SELECT
        FROM embedfleet.failure AS f
        WHERE f.collection_id = %(collection_id)s AND f.document_key = d.key
            AND f.created_at >= %(since)s
    );

-- name: page
-- A page of documents by their numbers: where it ends, how many are of the whole source, and the keys
-- and sources of those that are gone from the part of it that was read. Names of sources
-- are compared as they are, and those of folders as beginnings.
WITH page AS MATERIALIZED (
    SELECT id, key, source, updated_at
    FROM embedfleet.{documents}
    WHERE id > %(after)s
    ORDER BY id
    LIMIT %(limit)s
), own AS (
    SELECT d.key, d.source, d.id, (
        d.source = ANY (%(read)s)
        OR EXISTS (SELECT FROM unnest(%(read_below)s::text[]) AS b WHERE starts_with(d.source, b))
    ) AND {unseen} AS gone
    FROM page AS d
    WHERE d.source = %(source)s OR starts_with(d.source, %(below)s)
)
SELECT (SELECT max(id) FROM page) AS last, count(*) AS documents,
    coalesce(array_agg(key ORDER BY id) FILTER (WHERE gone), '{{}}') AS keys,
    coalesce(array_agg(source ORDER BY id) FILTER (WHERE gone), '{{}}') AS sources
FROM own;

-- name: each
-- A part of `page`, for who only asks what there is.
true;

-- name: doubt
-- Whether its job was cancelled, and whether what it has seen may be lost.
SELECT cancelled_at IS NOT NULL, NOT EXISTS (
    SELECT
    FROM embedfleet.sighting
    WHERE collection_id = %(collection_id)s AND document_id = 0 AND job_id = %(job_id)s
)
FROM embedfleet.job
WHERE id = %(job_id)s;

-- name: finish
UPDATE embedfleet.mirror
SET ended_at = now(), deleted = %(deleted)s, undeleted = %(undeleted)s
WHERE job_id = %(job_id)s;

-- name: forget_sightings
-- A page of those that no mirror asks for any more, because it began later.
DELETE FROM embedfleet.sighting
WHERE (collection_id, document_id, job_id) IN (
    SELECT collection_id, document_id, job_id
    FROM embedfleet.sighting
    WHERE collection_id = %(collection_id)s
        AND seen_at < coalesce((SELECT min(since) FROM ({runs}) AS r), 'infinity')
    ORDER BY document_id, job_id
    LIMIT %(limit)s
);
