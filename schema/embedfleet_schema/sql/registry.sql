-- name: copy_texts
COPY {incoming_text} (hash, tokens, content, context, batch_id) FROM STDIN (FORMAT BINARY);

-- name: known
-- Those of some texts that the collection has. Each hash is looked up: a planner that takes them for
-- many may read all texts of the collection instead. `batch_id` is the open batch that a text waits
-- in, and null where that answers later than the job may wait: a batch API takes a day.
SELECT uuid_send(t.hash) AS hash, t.id, t.tokens, t.content, t.context,
    EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = t.id OFFSET 0) AS stored,
    b.id AS batch_id
FROM unnest(%(hashes)s::uuid[]) AS h (hash)
CROSS JOIN LATERAL (
    SELECT hash, id, tokens, content, context, batch_id
    FROM embedfleet.{texts}
    WHERE hash = h.hash
    OFFSET 0
) AS t
LEFT JOIN LATERAL ({open_batch}) AS b ON true;

-- name: waiting
-- Texts that unchanged documents still wait for: their batch may be cancelled. What was refused before
-- anyone tried (no attempts) would be refused again.
SELECT DISTINCT uuid_send(t.hash) AS hash, t.id, t.tokens, NULL AS content, NULL AS context,
    false AS stored, b.id AS batch_id
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id AND {in_newest}
JOIN embedfleet.{texts} AS t ON t.id = c.text_id
LEFT JOIN LATERAL ({open_batch}) AS b ON true
WHERE d.key = ANY (%(keys)s)
    AND NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = c.text_id)
    AND NOT EXISTS (
        SELECT FROM embedfleet.failure AS f
        WHERE f.collection_id = %(collection_id)s AND f.text_id = c.text_id AND f.attempts = 0
    );

-- name: open_batch
-- A part of both: the batch that the text `t` waits in.
SELECT o.id FROM embedfleet.batch AS o WHERE o.id = t.batch_id AND {awaitable} OFFSET 0;

-- name: awaitable
-- A part of the others: whether somebody works at the batch `o`, or will, as soon as the job wants it.
o.state IN ('pending', 'held', 'leased')
    AND (o.delivery = 'direct' OR %(delivery)s = 'provider_batch');

-- name: hold_batches
-- Their commits wait for this transaction, or are waited for: so the texts that are found in them now
-- have their vectors by the time that documents are looked at, or go live with them later. Heartbeats
-- do not wait: they change no key.
SELECT o.id
FROM embedfleet.batch AS o
WHERE o.id = ANY (%(batches)s::bigint[]) AND {awaitable}
ORDER BY o.id
FOR KEY SHARE;

-- name: register
-- Texts get their numbers, and the batch that each waits in. Sorted, so that two producers of the same
-- texts cannot deadlock; of what another one registered meanwhile no row comes back.
INSERT INTO embedfleet.{texts} (hash, tokens, content, context, batch_id)
SELECT hash, tokens, content, context, batch_id
FROM {incoming_text}
ORDER BY hash
ON CONFLICT (hash) DO NOTHING
RETURNING uuid_send(hash), id;
