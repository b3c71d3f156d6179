-- name: stored
-- Which of these texts, by hash, have a vector in one collection.
SELECT uuid_send(t.hash)
FROM embedfleet.{texts} AS t
JOIN embedfleet.{vectors} AS v ON v.text_id = t.id
WHERE t.hash = ANY (%(hashes)s::uuid[]);

-- name: speed
-- Tokens per second of the newest job of a model that has finished batches, or had some: see
-- `removal.sql`.
SELECT coalesce(s.speed, n.tokens_per_second) AS speed
FROM (
    SELECT j.id, k.tokens_per_second
    FROM embedfleet.job AS j
    JOIN embedfleet.collection AS c ON c.id = j.collection_id
    JOIN embedfleet.space AS p ON p.id = c.space_id
    LEFT JOIN embedfleet.job_counter AS k ON k.job_id = j.id AND k.delivery = 'direct'
    WHERE p.provider = %(provider)s AND p.model = %(model)s
        AND (k.tokens_per_second IS NOT NULL OR EXISTS (
            SELECT FROM embedfleet.batch AS f
            WHERE f.job_id = j.id AND f.finished_at IS NOT NULL AND f.state = 'done'
                AND f.delivery = 'direct' AND f.tokens > 0
        ))
    ORDER BY j.id DESC
    LIMIT 1
) AS n
JOIN embedfleet.job AS j USING (id)
CROSS JOIN LATERAL (
    {speed_of}
) AS s;
