-- name: drop_grant_relations
DROP FUNCTION IF EXISTS embedfleet.grant_relations(text, text);

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
BEGIN
    IF current_user <> 'embedfleet_owner' THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO embedfleet_producer', documents);
    EXECUTE format('GRANT SELECT, UPDATE (live_version) ON %s TO embedfleet_worker', documents);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_producer', chunks);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_worker', chunks);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_producer', texts);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_worker', texts);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_producer', vectors);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_worker', vectors);
    EXECUTE format('GRANT SELECT ON embedfleet.%I TO embedfleet_search', view);
END
$$;

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
            content text NOT NULL
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

-- name: create_view_of
-- What the view of a collection shows: the live chunks that have a vector.
CREATE OR REPLACE FUNCTION embedfleet.view_of(collection_id bigint, space_id bigint) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format(
        'SELECT c.id, d.key AS document, c.position, t.content, c.metadata, v.embedding
        FROM embedfleet.%I AS v
        JOIN embedfleet.%I AS c ON c.text_id = v.text_id
        JOIN embedfleet.%I AS d ON d.id = c.document_id AND d.live_version = c.version
        JOIN embedfleet.%I AS t ON t.id = c.text_id',
        format('_vectors_%s_%s', collection_id, space_id), '_chunks_' || collection_id,
        '_documents_' || collection_id, '_texts_' || collection_id
    );
END
$$;

-- name: create_relations
-- The tables and the view of a collection whose row is there. It runs with its owner's rights, so that
-- who creates collections needs no right to create tables; all that it puts into a statement comes
-- from columns with a CHECK. No collection's name begins with an underscore.
CREATE OR REPLACE FUNCTION embedfleet.create_relations(collection_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted record;
BEGIN
    SELECT c.id, c.name, c.space_id, s.dimensions, s.storage INTO STRICT wanted
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    WHERE c.id = create_relations.collection_id;
    PERFORM embedfleet.create_tables(
        wanted.id, wanted.space_id, wanted.dimensions, wanted.storage
    );
    EXECUTE format(
        'CREATE VIEW embedfleet.%I AS %s',
        wanted.name, embedfleet.view_of(wanted.id, wanted.space_id)
    );
    PERFORM embedfleet.grant_relations(wanted.id, wanted.space_id, wanted.name);
END
$$;

-- name: close_to_others
-- PostgreSQL lets everybody call a new function.
REVOKE ALL ON FUNCTION
    embedfleet.create_relations(bigint),
    embedfleet.create_tables(bigint, bigint, int, text),
    embedfleet.view_of(bigint, bigint),
    embedfleet.grant_relations(bigint, bigint, text)
FROM PUBLIC;

-- name: number_texts_of_batches
ALTER TABLE embedfleet.batch ADD COLUMN IF NOT EXISTS texts bigint[];

-- name: number_texts_of_failures
ALTER TABLE embedfleet.failure ADD COLUMN IF NOT EXISTS text_id bigint;

-- name: create_hash_of
-- The first half of a hash.
CREATE OR REPLACE FUNCTION embedfleet.hash_of(sha256 bytea) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(substr(sha256, 1, 16), 'hex')::uuid
$$;

-- name: create_move
-- What there is of one collection: copied while readers go on, then its view changes at once. Texts are
-- numbered in the order in which they came, and an index on their vectors is built anew. Each in a
-- transaction of its own, because it takes some eighty locks; one that was moved before is left alone.
CREATE OR REPLACE FUNCTION embedfleet.move_collection(number bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each record;
    old text;
    one text;
    documents text;
    chunks text;
    texts text;
    vectors text;
    index_methods text[];
BEGIN
    LOCK TABLE embedfleet.document, embedfleet.chunk, embedfleet.batch, embedfleet.failure
    IN SHARE ROW EXCLUSIVE MODE;
    SELECT c.id, c.name, c.space_id, s.dimensions, s.storage INTO STRICT each
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    WHERE c.id = number;
    old := format('vectors_%s_%s', each.id, each.space_id);
    documents := '_documents_' || each.id;
    chunks := '_chunks_' || each.id;
    texts := '_texts_' || each.id;
    vectors := '_' || old;
    IF to_regclass(format('embedfleet.%I', documents)) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM embedfleet.create_tables(each.id, each.space_id, each.dimensions, each.storage);
    EXECUTE format(
        'INSERT INTO embedfleet.%I
            (id, key, digest, version, live_version, job_id, updated_at, source)
        OVERRIDING SYSTEM VALUE
        SELECT id, key, digest, version, live_version, job_id, updated_at, source
        FROM embedfleet.document
        WHERE collection_id = %s
        ORDER BY id',
        documents, each.id
    );
    EXECUTE format(
        'INSERT INTO embedfleet.%I (hash, tokens, content)
        SELECT embedfleet.hash_of(f.sha256), f.tokens, f.content
        FROM (
            SELECT DISTINCT ON (sha256) id, sha256, tokens, content
            FROM embedfleet.chunk
            WHERE collection_id = %s
            ORDER BY sha256, id
        ) AS f
        ORDER BY f.id',
        texts, each.id
    );
    EXECUTE format(
        'INSERT INTO embedfleet.%I
            (id, document_id, version, position, start_offset, end_offset, text_id, metadata)
        OVERRIDING SYSTEM VALUE
        SELECT c.id, c.document_id, c.version, c.position, c.start_offset, c.end_offset, t.id,
            c.metadata
        FROM embedfleet.chunk AS c
        JOIN embedfleet.%I AS t ON t.hash = embedfleet.hash_of(c.sha256)
        WHERE c.collection_id = %s
        ORDER BY c.id',
        chunks, texts, each.id
    );
    EXECUTE format(
        'INSERT INTO embedfleet.%I (text_id, batch_id, attempt, embedding)
        SELECT t.id, v.batch_id, v.attempt, v.embedding
        FROM embedfleet.%I AS v
        JOIN embedfleet.%I AS t ON t.hash = embedfleet.hash_of(v.sha256)
        ORDER BY t.id',
        vectors, old, texts
    );
    EXECUTE format(
        'UPDATE embedfleet.failure AS f
        SET text_id = t.id
        FROM embedfleet.%I AS t
        WHERE f.collection_id = %s AND t.hash = embedfleet.hash_of(f.sha256)',
        texts, each.id
    );
    EXECUTE format(
        'UPDATE embedfleet.batch AS b
        SET texts = ARRAY(
            SELECT t.id
            FROM unnest(b.hashes) WITH ORDINALITY AS h (sha256, number)
            JOIN embedfleet.%I AS t ON t.hash = embedfleet.hash_of(h.sha256)
            ORDER BY h.number
        )
        WHERE b.collection_id = %s AND b.state <> ''cancelled'' AND b.hashes <> ARRAY[]::bytea[]',
        texts, each.id
    );
    FOREACH one IN ARRAY ARRAY[documents, chunks] LOOP
        EXECUTE format(
            'SELECT setval(pg_get_serial_sequence(%L, %L), max(id)) FROM embedfleet.%I',
            format('embedfleet.%I', one), 'id', one
        );
    END LOOP;
    SELECT array_agg(format('%I.%I', n.nspname, o.opcname)) INTO index_methods
    FROM pg_index AS i
    JOIN pg_class AS k ON k.oid = i.indexrelid AND k.relname = old || '_hnsw'
    JOIN pg_opclass AS o ON o.oid = i.indclass[0]
    JOIN pg_namespace AS n ON n.oid = o.opcnamespace
    WHERE i.indrelid = format('embedfleet.%I', old)::regclass AND i.indisvalid;
    FOREACH one IN ARRAY coalesce(index_methods, ARRAY[]::text[]) LOOP
        EXECUTE format(
            'CREATE INDEX %I ON embedfleet.%I USING hnsw (embedding %s)',
            vectors || '_hnsw', vectors, one
        );
    END LOOP;
    EXECUTE format(
        'ANALYZE embedfleet.%I, embedfleet.%I, embedfleet.%I, embedfleet.%I',
        documents, chunks, texts, vectors
    );
    EXECUTE format(
        'CREATE OR REPLACE VIEW embedfleet.%I AS %s',
        each.name, embedfleet.view_of(each.id, each.space_id)
    );
    PERFORM embedfleet.grant_relations(each.id, each.space_id, each.name);
    EXECUTE format('DROP TABLE embedfleet.%I', old);
END
$$;

-- name: forget_failures_of_nothing
-- Of texts that no chunk has any more.
DELETE FROM embedfleet.failure WHERE text_id IS NULL AND document_key IS NULL;

-- name: batches_without_texts
UPDATE embedfleet.batch SET texts = ARRAY[]::bigint[] WHERE texts IS NULL;

-- name: forget_hashes_of_batches
ALTER TABLE embedfleet.batch ALTER COLUMN texts SET NOT NULL, DROP COLUMN hashes;

-- name: forget_hashes_of_failures
ALTER TABLE embedfleet.failure DROP COLUMN sha256;

-- name: check_failures
ALTER TABLE embedfleet.failure
    ADD CONSTRAINT ck_failure_subject CHECK ((text_id IS NULL) <> (document_key IS NULL)),
    ADD CONSTRAINT uq_failure_collection_id_text_id UNIQUE (collection_id, text_id);

-- name: drop_move
DROP FUNCTION embedfleet.move_collection(bigint);

-- name: drop_hash_of
DROP FUNCTION embedfleet.hash_of(bytea);

-- name: drop_shared
DROP TABLE embedfleet.chunk, embedfleet.document;
