-- name: create_awaited_batch
-- The batches of others that a job waits for, and how many of its texts are in them. A row goes with
-- the end of its batch.
CREATE TABLE IF NOT EXISTS embedfleet.awaited_batch (
    batch_id bigint NOT NULL,
    job_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    texts int NOT NULL,
    CONSTRAINT pk_awaited_batch PRIMARY KEY (batch_id, job_id),
    CONSTRAINT fk_awaited_batch_batch_id_batch
        FOREIGN KEY (batch_id) REFERENCES embedfleet.batch ON DELETE CASCADE,
    CONSTRAINT fk_awaited_batch_job_id_job
        FOREIGN KEY (job_id) REFERENCES embedfleet.job ON DELETE CASCADE,
    CONSTRAINT fk_awaited_batch_owner_id_job
        FOREIGN KEY (owner_id) REFERENCES embedfleet.job ON DELETE CASCADE
);

-- name: index_awaited_batches_by_job
CREATE INDEX IF NOT EXISTS ix_awaited_batch_job_id ON embedfleet.awaited_batch (job_id);

-- name: index_awaited_batches_by_owner
CREATE INDEX IF NOT EXISTS ix_awaited_batch_owner_id ON embedfleet.awaited_batch (owner_id);

-- name: count_awaited
ALTER TABLE embedfleet.job ADD COLUMN IF NOT EXISTS awaited bigint NOT NULL DEFAULT 0;

-- name: keep_reuse
-- Whose vectors a collection takes over, and lets others take over.
ALTER TABLE embedfleet.collection
    ADD COLUMN IF NOT EXISTS reuse text NOT NULL DEFAULT 'space'
        CONSTRAINT ck_collection_reuse CHECK (reuse IN ('space', 'none'));

-- name: create_tables
-- The tables of one collection: what it was given, and the distinct texts of that with their vectors.
-- Only the hashes of texts come in random order; all else is written and read in the order of numbers.
--
-- The table of vectors is narrow on purpose: a wide row would push the vector out of line (TOAST). A
-- row must fit an 8 kB page to stay in line: 7,900 bytes of floats leave room for the key. The norm is
-- checked because pgvector accepts a zero vector, whose cosine distance is NaN and which no HNSW
-- index has.
CREATE OR REPLACE FUNCTION embedfleet.create_tables(
    collection_id bigint, space_id bigint, dimensions int, storage text
)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    documents text := '_documents_' || collection_id;
    chunks text := '_chunks_' || collection_id;
    texts text := '_texts_' || collection_id;
    vectors text := format('_vectors_%s_%s', collection_id, space_id);
    norm text := CASE storage WHEN 'vector' THEN 'vector_norm' ELSE 'l2_norm' END;
    bytes int := CASE storage WHEN 'vector' THEN 4 ELSE 2 END * dimensions;
    extension text;
BEGIN
    SELECT n.nspname INTO STRICT extension
    FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector';
    EXECUTE format(
        'CREATE TABLE embedfleet.%I (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            key text NOT NULL UNIQUE,
            digest bytea NOT NULL,
            version int NOT NULL,
            live_version int CHECK (live_version <= version),
            job_id bigint,
            updated_at timestamptz NOT NULL DEFAULT now(),
            source text
        )',
        documents
    );
    EXECUTE format(
        'CREATE INDEX ON embedfleet.%I (id) WHERE live_version IS DISTINCT FROM version', documents
    );
    EXECUTE format(
        'CREATE TABLE embedfleet.%I (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            document_id bigint NOT NULL REFERENCES embedfleet.%I ON DELETE CASCADE,
            version int NOT NULL,
            position int NOT NULL,
            start_offset int,
            end_offset int,
            text_id bigint NOT NULL,
            metadata jsonb NOT NULL,
            UNIQUE (document_id, version, position)
        )',
        chunks, documents
    );
    EXECUTE format('CREATE INDEX ON embedfleet.%I (text_id)', chunks);
    EXECUTE format(
        'CREATE TABLE embedfleet.%I (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            tokens int NOT NULL,
            hash uuid NOT NULL UNIQUE,
            content text NOT NULL,
            batch_id bigint
        )',
        texts
    );
    EXECUTE format(
        'CREATE TABLE embedfleet.%I (
            text_id bigint PRIMARY KEY,
            batch_id bigint NOT NULL,
            attempt int NOT NULL,
            embedding %I.%I(%s) NOT NULL CHECK (%I.%I(embedding) > 0)
        )',
        vectors, extension, storage, dimensions, extension, norm
    );
    IF bytes <= 7900 THEN
        EXECUTE format(
            'ALTER TABLE embedfleet.%I ALTER COLUMN embedding SET STORAGE PLAIN', vectors
        );
    END IF;
END
$$;

-- name: create_grant_relations
-- Who may do what with the tables and the view of one collection. Where the roles are not in use the
-- function belongs to another user, and nothing is granted.
CREATE OR REPLACE FUNCTION embedfleet.grant_relations(collection_id bigint, space_id bigint, view text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    documents text := format('embedfleet.%I', '_documents_' || collection_id);
    chunks text := format('embedfleet.%I', '_chunks_' || collection_id);
    texts text := format('embedfleet.%I', '_texts_' || collection_id);
    vectors text := format('embedfleet.%I', format('_vectors_%s_%s', collection_id, space_id));
    each text;
BEGIN
    IF current_user <> 'embedfleet_owner' THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO embedfleet_producer', documents);
    EXECUTE format('GRANT SELECT, UPDATE (live_version) ON %s TO embedfleet_worker', documents);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_producer', chunks);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_worker', chunks);
    EXECUTE format(
        'GRANT SELECT, INSERT, UPDATE (batch_id), DELETE ON %s TO embedfleet_producer', texts
    );
    EXECUTE format('GRANT SELECT, UPDATE (batch_id), DELETE ON %s TO embedfleet_worker', texts);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_producer', vectors);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_worker', vectors);
    FOREACH each IN ARRAY ARRAY[documents, chunks, texts, vectors] LOOP
        EXECUTE format(
            'CREATE POLICY fleet ON %s TO embedfleet_producer, embedfleet_worker
            USING (true) WITH CHECK (true)',
            each
        );
    END LOOP;
    PERFORM embedfleet.grant_view(collection_id, space_id, view, 'embedfleet_search');
END
$$;

-- name: create_point_texts
-- A text that waits points to an open batch that has it, to the latest where they are several. In a
-- transaction of its own, while nobody makes batches; one that is done already is left alone.
CREATE OR REPLACE FUNCTION embedfleet.point_texts(number bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    texts text := '_texts_' || number;
BEGIN
    LOCK TABLE embedfleet.batch IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format('ALTER TABLE embedfleet.%I ADD COLUMN IF NOT EXISTS batch_id bigint', texts);
    EXECUTE format(
        'UPDATE embedfleet.%I AS t
        SET batch_id = w.batch_id
        FROM (
            SELECT h.text_id, max(b.id) AS batch_id
            FROM embedfleet.batch AS b
            CROSS JOIN LATERAL unnest(b.texts) AS h (text_id)
            WHERE b.collection_id = %s AND b.state IN (''pending'', ''held'', ''leased'')
            GROUP BY h.text_id
        ) AS w
        WHERE t.id = w.text_id AND t.batch_id IS NULL',
        texts, number
    );
END
$$;

-- name: drop_point_texts
DROP FUNCTION embedfleet.point_texts(bigint);
