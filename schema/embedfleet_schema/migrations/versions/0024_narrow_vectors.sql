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

-- name: collections
SELECT id, space_id FROM embedfleet.collection ORDER BY id;

-- name: narrow
-- Rows that are there keep their width until they are written anew.
ALTER TABLE embedfleet.{vectors} DROP COLUMN IF EXISTS batch_id, DROP COLUMN IF EXISTS attempt
