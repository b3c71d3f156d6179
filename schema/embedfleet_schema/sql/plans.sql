-- name: stored
-- Which of these texts have a vector in one vector table.
SELECT sha256 FROM embedfleet.{vectors} WHERE sha256 = ANY (%(hashes)s::bytea[]);

-- name: speed
-- Tokens per second of the newest job of a model that has finished batches: all workers together,
-- from the first claim to the last commit among its newest thousand. The batch lane's hours of
-- waiting say nothing of the ordinary way.
SELECT sum(b.tokens) / extract(epoch FROM max(b.finished_at) - min(b.leased_at))::float8 AS speed
FROM (
    SELECT d.tokens, d.leased_at, d.finished_at
    FROM embedfleet.batch AS d
    WHERE d.state = 'done' AND d.queue <> 'lane' AND d.leased_at < d.finished_at AND d.job_id = (
        SELECT n.job_id
        FROM embedfleet.batch AS n
        JOIN embedfleet.collection AS c ON c.id = n.collection_id
        JOIN embedfleet.space AS s ON s.id = c.space_id
        WHERE n.state = 'done' AND n.queue <> 'lane' AND n.tokens > 0 AND s.provider = %(provider)s
            AND s.model = %(model)s
        ORDER BY n.id DESC
        LIMIT 1
    )
    ORDER BY d.id DESC
    LIMIT 1000
) AS b
HAVING max(b.finished_at) > min(b.leased_at);
