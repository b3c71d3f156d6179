-- name: stored
-- Which of these texts, by hash, have a vector in one collection.
SELECT uuid_send(t.hash)
FROM embedfleet.{texts} AS t
JOIN embedfleet.{vectors} AS v ON v.text_id = t.id
WHERE t.hash = ANY (%(hashes)s::uuid[]);

-- name: speed
-- Tokens per second of the newest job of a model that has finished batches, while any of them was
-- under way: all workers together, over its newest thousand. The first batch of a process loads the
-- model, and says nothing of the speed; nor do the batch lane's hours of waiting.
SELECT max(w.tokens) / sum(extract(epoch FROM upper(b.span) - lower(b.span)))::float8 AS speed
FROM (
    SELECT sum(tokens) AS tokens, range_agg(tstzrange(leased_at, finished_at)) AS busy
    FROM (
        SELECT n.tokens, n.leased_at, n.finished_at,
            row_number() OVER (PARTITION BY n.owner ORDER BY n.leased_at, n.id) > 1 AS warm
        FROM (
            SELECT d.id, d.owner, d.tokens, d.leased_at, d.finished_at
            FROM embedfleet.batch AS d
            WHERE d.state = 'done' AND d.lane = 'live' AND d.leased_at < d.finished_at
                AND d.job_id = (
                    SELECT f.job_id
                    FROM embedfleet.batch AS f
                    JOIN embedfleet.collection AS c ON c.id = f.collection_id
                    JOIN embedfleet.space AS s ON s.id = c.space_id
                    WHERE f.state = 'done' AND f.lane = 'live' AND f.tokens > 0
                        AND s.provider = %(provider)s AND s.model = %(model)s
                    ORDER BY f.id DESC
                    LIMIT 1
                )
            ORDER BY d.id DESC
            LIMIT 1000
        ) AS n
    ) AS m
    WHERE warm
) AS w
CROSS JOIN LATERAL unnest(w.busy) AS b (span);
