-- name: unchanged
-- Objects of which this version was stored, and how many documents each has: all of them are still
-- there, and of the same source.
SELECT o.source, d.documents
FROM unnest(%(sources)s::text[], %(versions)s::bytea[]) AS w (source, version)
JOIN embedfleet.object AS o ON o.collection_id = %(collection_id)s AND o.source = w.source
    AND o.version = w.version
CROSS JOIN LATERAL (
    SELECT sum(upper(r) - lower(r)) AS wanted FROM unnest(o.documents) AS r
) AS n
CROSS JOIN LATERAL (
    SELECT count(*) AS documents
    FROM unnest(o.documents) AS r
    JOIN embedfleet.{documents} AS d ON d.id >= lower(r) AND d.id < upper(r)
    WHERE d.source = coalesce(%(named)s, o.source) AND d.digest NOT IN ('', '\x00')
) AS d
WHERE d.documents = n.wanted;

-- name: keys
-- Those of the documents of some objects.
SELECT d.key
FROM embedfleet.object AS o
CROSS JOIN LATERAL unnest(o.documents) AS r
JOIN embedfleet.{documents} AS d ON d.id >= lower(r) AND d.id < upper(r)
WHERE o.collection_id = %(collection_id)s AND o.source = ANY (%(sources)s);

-- name: add
-- Documents of objects that are being read. What another job noted is replaced.
INSERT INTO embedfleet.object AS o (collection_id, source, documents, job_id)
SELECT %(collection_id)s, w.object, range_agg(int8range(d.id, d.id, '[]')), %(job_id)s
FROM unnest(%(keys)s::text[], %(objects)s::text[], %(sources)s::text[]) AS w (key, object, source)
JOIN embedfleet.{documents} AS d ON d.key = w.key AND d.source = w.source
GROUP BY w.object
ORDER BY w.object
ON CONFLICT (collection_id, source) DO UPDATE
SET version = NULL, job_id = excluded.job_id, documents = CASE o.job_id
    WHEN excluded.job_id THEN o.documents + excluded.documents
    ELSE excluded.documents
END;

-- name: finish
-- Objects that were read to their end, if all that was read of them is stored.
UPDATE embedfleet.object AS o
SET version = w.version
FROM unnest(%(objects)s::text[], %(versions)s::bytea[], %(documents)s::bigint[])
    AS w (source, version, documents)
WHERE o.collection_id = %(collection_id)s AND o.source = w.source AND o.job_id = %(job_id)s
    AND w.documents = (SELECT sum(upper(r) - lower(r)) FROM unnest(o.documents) AS r);

-- name: forget
-- Objects whose documents are gone.
DELETE FROM embedfleet.object AS o
WHERE o.collection_id = %(collection_id)s
    AND NOT EXISTS (SELECT FROM embedfleet.{documents} AS d WHERE d.id = lower(o.documents));
