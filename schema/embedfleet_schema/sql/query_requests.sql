-- name: listen
LISTEN embedfleet_query;

-- name: ask
-- The vector of a text where it is known, else the id of a request. No row, and no request, where the
-- collection is not the one that is meant, but the next of its name.
SELECT a.id, a.vector::real[]
FROM embedfleet.space_of(%(collection)s) AS s
CROSS JOIN LATERAL embedfleet.ask(%(collection)s, %(text)s) AS a
WHERE s.vectors = %(vectors)s;

-- name: answer
SELECT vector::real[], reason, refused, pause FROM embedfleet.answer(%(id)s);

-- name: claim
-- Texts that nobody embeds now, the oldest first. At once those of models that are loaded here; another
-- process may have one loaded, so that this one waits for a moment before it loads one.
UPDATE embedfleet.query_request AS r
SET claimed_until = clock_timestamp() + %(lease_s)s * interval '1 s'
FROM (
    SELECT q.id, q.text, q.space_id, q.queue, q.kind
    FROM embedfleet.query_request AS q
    JOIN embedfleet.space AS s ON s.id = q.space_id
    WHERE q.text IS NOT NULL AND q.queue = ANY (%(queues)s)
        AND (q.claimed_until IS NULL OR q.claimed_until < clock_timestamp())
        AND (
            s.fingerprint = ANY (%(loaded)s)
            OR q.asked_at < clock_timestamp() - %(patience_s)s * interval '1 s'
        )
        AND q.space_id <> ALL (%(excluding)s)
    ORDER BY q.asked_at
    LIMIT %(most)s
    FOR UPDATE OF q SKIP LOCKED
) AS c
WHERE r.id = c.id
RETURNING r.id, c.space_id, c.queue, c.text, c.kind;

-- name: extend
-- Whoever has claimed them is still at it.
UPDATE embedfleet.query_request
SET claimed_until = clock_timestamp() + %(lease_s)s * interval '1 s'
WHERE id = ANY (%(ids)s) AND text IS NOT NULL;

-- name: space
SELECT provider, model, dimensions, max_tokens, revision, pooling, normalized, document_prompt,
    query_prompt, storage, metric
FROM embedfleet.space
WHERE id = %(space_id)s;

-- name: give
-- The first answer is kept: a later one is the same.
UPDATE embedfleet.query_request SET vector = %(vector)s, tokens = %(tokens)s, text = NULL
WHERE id = %(id)s AND text IS NOT NULL;

-- name: refuse
UPDATE embedfleet.query_request SET reason = %(reason)s, text = NULL
WHERE id = %(id)s AND text IS NOT NULL;

-- name: give_back
-- This worker cannot embed it, another one may.
UPDATE embedfleet.query_request SET claimed_until = NULL, problem = %(problem)s
WHERE id = ANY (%(ids)s) AND text IS NOT NULL;

-- name: ask_many
SELECT embedfleet.ask_many(%(space_id)s, %(queue)s, %(texts)s, %(kind)s);

-- name: answers
SELECT id, vector::real[] AS vector, tokens, reason, refused FROM embedfleet.answers(%(ids)s);

-- name: withdraw
SELECT embedfleet.withdraw(%(ids)s);

-- name: forget
-- Whoever asked is not there any more.
DELETE FROM embedfleet.query_request WHERE asked_at < now() - interval '1 minute';
