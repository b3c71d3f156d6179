-- name: add_templates
ALTER TABLE embedfleet.collection
ADD COLUMN IF NOT EXISTS template text NOT NULL DEFAULT '',
ADD COLUMN IF NOT EXISTS former_template text;

-- name: allow_jobs
ALTER TABLE embedfleet.job
DROP CONSTRAINT ck_job_kind,
ADD CONSTRAINT ck_job_kind CHECK (kind IN ('enqueue', 'repair', 'retry', 'template'));

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
            source text,
            kept int8multirange,
            live_kept int8multirange
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
            batch_id bigint,
            context text
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

-- name: create_view_of
-- What the view of a collection shows: the live chunks that have a vector.
CREATE OR REPLACE FUNCTION embedfleet.view_of(collection_id bigint, space_id bigint) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format(
        'SELECT c.id, d.key AS document, c.position, t.content, c.metadata, v.embedding,
            t.context
        FROM embedfleet.%I AS v
        JOIN embedfleet.%I AS c ON c.text_id = v.text_id
        JOIN embedfleet.%I AS d ON d.id = c.document_id
            AND (d.live_version = c.version OR c.id <@ d.live_kept)
        JOIN embedfleet.%I AS t ON t.id = c.text_id',
        format('_vectors_%s_%s', collection_id, space_id), '_chunks_' || collection_id,
        '_documents_' || collection_id, '_texts_' || collection_id
    );
END
$$;

-- name: create_grant_view
-- What reading a view takes: the view runs with the rights of who reads it.
CREATE OR REPLACE FUNCTION embedfleet.grant_view(
    collection_id bigint, space_id bigint, view text, reader name
)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT r.name, r.rights
        FROM (VALUES
            (view, 'SELECT'),
            ('_documents_' || collection_id, 'SELECT (id, key, live_version, live_kept)'),
            (
                '_chunks_' || collection_id,
                'SELECT (id, document_id, version, position, text_id, metadata)'
            ),
            ('_texts_' || collection_id, 'SELECT (id, content, context)'),
            (format('_vectors_%s_%s', collection_id, space_id), 'SELECT (text_id, embedding)')
        ) AS r (name, rights)
    LOOP
        EXECUTE format(
            'GRANT %s ON embedfleet.%I TO %s', each.rights, each.name,
            CASE reader WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(reader) END
        );
    END LOOP;
END
$$;

-- name: collections
SELECT id FROM embedfleet.collection ORDER BY id;

-- name: create_add_context
-- One collection of before, in a transaction of its own, and safe to run again. Nobody enqueues or
-- commits meanwhile. Who may read contents may read contexts: both are what was given to be searched.
CREATE OR REPLACE FUNCTION embedfleet.add_context_to(number bigint, lock_space int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    texts text := '_texts_' || number;
    own record;
    given record;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_space, number::int);
    SELECT c.name, c.space_id INTO own FROM embedfleet.collection AS c WHERE c.id = number;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE embedfleet.%I ADD COLUMN IF NOT EXISTS context text', texts);
    FOR given IN
        SELECT a.privilege_type AS privilege,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                AS grantee
        FROM pg_attribute AS t
        CROSS JOIN LATERAL aclexplode(t.attacl) AS a
        WHERE t.attrelid = format('embedfleet.%I', texts)::regclass AND t.attname = 'content'
    LOOP
        EXECUTE format(
            'GRANT %s (context) ON embedfleet.%I TO %s', given.privilege, texts, given.grantee
        );
    END LOOP;
    EXECUTE format(
        'CREATE OR REPLACE VIEW embedfleet.%I WITH (security_invoker = on) AS %s',
        own.name, embedfleet.view_of(number, own.space_id)
    );
END
$$;

-- name: add_context
SELECT embedfleet.add_context_to(%(number)s, %(lock_space)s);

-- name: drop_add_context
DROP FUNCTION embedfleet.add_context_to(bigint, int);
