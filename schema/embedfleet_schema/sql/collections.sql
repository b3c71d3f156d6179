-- name: ensure_space
-- One row per fingerprint; the dummy update makes RETURNING give the row that was there.
INSERT INTO embedfleet.space
    (fingerprint, provider, model, revision, dimensions, max_tokens, pooling, normalized,
        document_prompt, query_prompt, storage, metric)
VALUES
    (%(fingerprint)s, %(provider)s, %(model)s, %(revision)s, %(dimensions)s, %(max_tokens)s,
        %(pooling)s, %(normalized)s, %(document_prompt)s, %(query_prompt)s, %(storage)s,
        %(metric)s)
ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint
RETURNING id;

-- name: serialize
-- Two processes that create the same collection at once take turns.
SELECT pg_advisory_xact_lock(%(space)s, hashtext(%(name)s));

-- name: name_taken
SELECT to_regclass(format('embedfleet.%%I', %(name)s::text)) IS NOT NULL AS taken;

-- name: create
INSERT INTO embedfleet.collection
    (name, space_id, chunk_size, chunk_overlap, chunk_mode, tokenizer, too_long, template, queue,
        reuse, precision)
VALUES
    (%(name)s, %(space_id)s, %(size)s, %(overlap)s, %(mode)s, %(tokenizer)s, %(too_long)s,
        coalesce(%(template)s, ''), %(queue)s, %(reuse)s, %(precision)s)
RETURNING id;

-- name: create_relations
-- Its tables and its view, made by a function of the schema's owner (see migration 0017).
SELECT embedfleet.create_relations(%(collection_id)s);

-- name: create_filter_index
-- Of a new collection (see migration 0025).
SELECT embedfleet.create_filter_index(%(collection_id)s);

-- name: drop_view
DROP VIEW IF EXISTS embedfleet.{name} {behaviour};

-- name: drop_tables
DROP TABLE IF EXISTS embedfleet.{vectors}, embedfleet.{texts}, embedfleet.{chunks},
    embedfleet.{documents} {behaviour};

-- name: many_rows
-- Whether more batches or failures go with it than a transaction may take.
SELECT greatest(
    (SELECT count(*) FROM (
        SELECT FROM embedfleet.job AS j
        JOIN embedfleet.batch AS b ON b.job_id = j.id
        WHERE j.collection_id = %(collection_id)s
        LIMIT %(limit)s + 1
    ) AS batches),
    (SELECT count(*) FROM (
        SELECT FROM embedfleet.failure
        WHERE collection_id = %(collection_id)s
        LIMIT %(limit)s + 1
    ) AS failures)
) > %(limit)s AS many;

-- name: abandon_jobs
-- Nobody makes or claims batches of theirs any more.
UPDATE embedfleet.job AS j
SET cancelled_at = now()
WHERE j.collection_id = %(collection_id)s AND j.cancelled_at IS NULL
    AND (j.loaded_at IS NULL OR EXISTS (
        SELECT FROM embedfleet.batch AS b
        WHERE b.job_id = j.id AND b.state IN ('pending', 'held', 'leased')
    ) OR EXISTS (SELECT FROM embedfleet.awaited_batch AS a WHERE a.job_id = j.id));

-- name: delete_batches
-- A page of them. One that is just being settled goes at the end.
DELETE FROM embedfleet.batch
WHERE id = ANY (ARRAY(
    SELECT b.id
    FROM embedfleet.job AS j
    JOIN embedfleet.batch AS b ON b.job_id = j.id
    WHERE j.collection_id = %(collection_id)s
    LIMIT %(limit)s
    FOR UPDATE OF b SKIP LOCKED
));

-- name: delete_failures
DELETE FROM embedfleet.failure
WHERE id = ANY (ARRAY(
    SELECT id
    FROM embedfleet.failure
    WHERE collection_id = %(collection_id)s
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
));

-- name: delete
DELETE FROM embedfleet.collection WHERE id = %(collection_id)s;

-- name: list
-- All of them, or those that another part names: without conditions that may be empty, of which a
-- planner would have to think anew each time.
SELECT c.id, c.name, c.space_id, c.chunk_size, c.chunk_overlap, c.chunk_mode, c.tokenizer, c.too_long,
    c.template, c.former_template, c.queue, c.reuse, c.precision, c.created_at, s.provider, s.model, s.revision, s.dimensions,
    s.max_tokens, s.pooling, s.normalized, s.document_prompt, s.query_prompt, s.storage, s.metric
FROM embedfleet.collection AS c
JOIN embedfleet.space AS s ON s.id = c.space_id
{which};

-- name: all
-- A part of `list`.
ORDER BY c.name;

-- name: named
WHERE c.name = %(name)s;

-- name: numbered
WHERE c.id = %(id)s;

-- name: name_of
SELECT name FROM embedfleet.collection WHERE id = %(id)s;

-- name: succeeding
-- What serves in the place of one that is gone.
WHERE c.id = (SELECT successor_id FROM embedfleet.successor WHERE collection_id = %(id)s);

-- name: of_space
-- The newest ones that let others take their vectors, and whose precision is good enough.
WHERE s.fingerprint = %(fingerprint)s AND c.reuse = 'space'
    AND (%(precision)s::text IS NULL OR c.precision = %(precision)s)
ORDER BY c.id DESC
LIMIT %(limit)s;

-- name: newest
ORDER BY c.id DESC
LIMIT %(limit)s;

-- name: template
SELECT template FROM embedfleet.collection WHERE id = %(id)s;

-- name: change_template
-- Documents may still have the former one: see `end_template_change`.
UPDATE embedfleet.collection
SET former_template = template, template = %(template)s
WHERE id = %(id)s AND former_template IS NULL AND template <> %(template)s;

-- name: end_template_change
UPDATE embedfleet.collection
SET former_template = NULL
WHERE id = %(id)s AND template = %(template)s;

-- name: near
-- Names that come before and after one in the alphabet, and whether there are more of them.
SELECT n.name, n.rank > %(most)s AS beyond
FROM (
    (
        SELECT name, row_number() OVER (ORDER BY name DESC) AS rank
        FROM embedfleet.collection
        WHERE name < %(name)s
        ORDER BY name DESC
        LIMIT %(most)s + 1
    )
    UNION ALL
    (
        SELECT name, row_number() OVER (ORDER BY name) AS rank
        FROM embedfleet.collection
        WHERE name > %(name)s
        ORDER BY name
        LIMIT %(most)s + 1
    )
) AS n
ORDER BY n.name;

-- name: counts
-- How much there is in collections: in those of `sizes`, which says what that takes on disk.
SELECT c.id, coalesce(k.documents, 0) AS documents, coalesce(k.live_documents, 0) AS live_documents,
    coalesce(k.chunks, 0) AS chunks, coalesce(k.vectors, 0) AS vectors,
    coalesce(k.failures, 0) AS failures, coalesce(t.bytes, 0)::bigint AS bytes,
    coalesce(t.vector_bytes, 0)::bigint AS vector_bytes, coalesce(t.indexed, false) AS indexed
FROM embedfleet.collection AS c
LEFT JOIN (
    {of_collections}
) AS k ON k.collection_id = c.id
{sizes};

-- name: measured
-- A part of `counts`: of one collection, as it is now. Each table is looked up by its name: a planner
-- may look through the whole catalog instead.
CROSS JOIN LATERAL (
    SELECT sum(n.size) AS bytes, sum(n.size) FILTER (WHERE n.of_vectors) AS vector_bytes,
        bool_or(n.indexed) AS indexed
    FROM (
        SELECT r.of_vectors, pg_total_relation_size(r.oid) AS size,
            EXISTS (
                SELECT
                FROM pg_index AS i
                JOIN pg_class AS x ON x.oid = i.indexrelid
                JOIN pg_am AS a ON a.oid = x.relam
                WHERE i.indrelid = r.oid AND a.amname IN ('hnsw', 'ivfflat') AND i.indisvalid
                OFFSET 0
            ) AS indexed
        FROM (
            SELECT to_regclass(format('embedfleet.%%I', v.name))::oid AS oid, v.of_vectors
            FROM (VALUES {tables}) AS v (name, of_vectors)
            OFFSET 0
        ) AS r
        OFFSET 0
    ) AS n
) AS t
WHERE c.id = %(collection_id)s;

-- name: estimated
-- The same of all, as the last vacuum or analyze of each table found it: to measure a table, PostgreSQL
-- opens it with its policies.
LEFT JOIN (
    WITH indexes AS (
        SELECT i.indrelid AS oid, sum(x.relpages) AS pages,
            bool_or(a.amname IN ('hnsw', 'ivfflat') AND i.indisvalid) AS indexed
        FROM pg_index AS i
        JOIN pg_class AS x ON x.oid = i.indexrelid
        JOIN pg_am AS a ON a.oid = x.relam
        GROUP BY i.indrelid
    )
    SELECT c.id, sum(n.bytes) AS bytes, sum(n.bytes) FILTER (WHERE v.of_vectors) AS vector_bytes,
        bool_or(n.indexed) AS indexed
    FROM embedfleet.collection AS c
    CROSS JOIN LATERAL (VALUES {tables}) AS v (name, of_vectors)
    JOIN (
        SELECT r.relname AS name, i.indexed,
            current_setting('block_size')::bigint * (
                r.relpages + coalesce(i.pages, 0) + coalesce(o.relpages, 0) + coalesce(k.pages, 0)
            ) AS bytes
        FROM pg_class AS r
        LEFT JOIN indexes AS i ON i.oid = r.oid
        LEFT JOIN pg_class AS o ON o.oid = r.reltoastrelid
        LEFT JOIN indexes AS k ON k.oid = r.reltoastrelid
        WHERE r.relnamespace = 'embedfleet'::regnamespace AND r.relkind = 'r'
    ) AS n ON n.name = v.name
    GROUP BY c.id
) AS t ON t.id = c.id;

-- name: tables
-- A part of both: the tables of a collection `c` by name, and which has the vectors.
('_documents_' || c.id, false), ('_chunks_' || c.id, false), ('_texts_' || c.id, false),
('_vectors_' || c.id || '_' || c.space_id, true);
