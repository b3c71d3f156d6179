-- name: drop_grant_relations
DROP FUNCTION embedfleet.grant_relations(text, text);

-- name: create_grant_relations
-- Who may do what with the tables and the view of one collection. Where the roles are not in use the
-- function belongs to another user, and nothing is granted.
CREATE FUNCTION embedfleet.grant_relations(collection_id bigint, space_id bigint, view text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    documents text := format('embedfleet.%I', '_documents_' || collection_id);
    chunks text := format('embedfleet.%I', '_chunks_' || collection_id);
    vectors text := format('embedfleet.%I', format('_vectors_%s_%s', collection_id, space_id));
BEGIN
    IF current_user <> 'embedfleet_owner' THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO embedfleet_producer', documents);
    EXECUTE format('GRANT SELECT, UPDATE (live_version) ON %s TO embedfleet_worker', documents);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_producer', chunks);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_worker', chunks);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_producer', vectors);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_worker', vectors);
    EXECUTE format('GRANT SELECT ON embedfleet.%I TO embedfleet_search', view);
END
$$;

-- name: create_texts
-- The tables of the documents and the chunks of one collection.
CREATE FUNCTION embedfleet.create_texts(collection_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    documents text := '_documents_' || collection_id;
    chunks text := '_chunks_' || collection_id;
BEGIN
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
            tokens int NOT NULL,
            sha256 bytea NOT NULL,
            content text NOT NULL,
            metadata jsonb NOT NULL,
            UNIQUE (document_id, version, position)
        )',
        chunks, documents
    );
    EXECUTE format('CREATE INDEX ON embedfleet.%I (sha256)', chunks);
END
$$;

-- name: create_view_of
-- What the view of a collection shows: the live chunks that have a vector.
CREATE FUNCTION embedfleet.view_of(collection_id bigint, space_id bigint) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format(
        'SELECT c.id, d.key AS document, c.position, c.content, c.metadata, v.embedding
        FROM embedfleet.%I AS v
        JOIN embedfleet.%I AS c ON c.sha256 = v.sha256
        JOIN embedfleet.%I AS d ON d.id = c.document_id AND d.live_version = c.version',
        format('_vectors_%s_%s', collection_id, space_id), '_chunks_' || collection_id,
        '_documents_' || collection_id
    );
END
$$;

-- name: create_relations
-- The tables and the view of a collection whose row is there. It runs with its owner's rights, so that
-- who creates collections needs no right to create tables; all that it puts into a statement comes
-- from columns with a CHECK. No collection's name begins with an underscore.
--
-- The table of vectors is narrow on purpose: a wide row would push the vector out of line (TOAST). A
-- row must fit an 8 kB page to stay in line: 7,900 bytes of floats leave room for the key. The norm is
-- checked because pgvector accepts a zero vector, whose cosine distance is NaN and which no HNSW
-- index has.
CREATE OR REPLACE FUNCTION embedfleet.create_relations(collection_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted record;
    vectors text;
    extension text;
    bytes int;
    norm text;
BEGIN
    SELECT c.id, c.name, c.space_id, s.dimensions, s.storage INTO STRICT wanted
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    WHERE c.id = create_relations.collection_id;
    SELECT n.nspname INTO STRICT extension
    FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector';
    PERFORM embedfleet.create_texts(wanted.id);
    vectors := format('_vectors_%s_%s', wanted.id, wanted.space_id);
    norm := CASE wanted.storage WHEN 'vector' THEN 'vector_norm' ELSE 'l2_norm' END;
    bytes := CASE wanted.storage WHEN 'vector' THEN 4 ELSE 2 END * wanted.dimensions;
    EXECUTE format(
        'CREATE TABLE embedfleet.%I (
            sha256 bytea PRIMARY KEY,
            embedding %I.%I(%s) NOT NULL CHECK (%I.%I(embedding) > 0),
            batch_id bigint NOT NULL,
            attempt int NOT NULL
        )',
        vectors, extension, wanted.storage, wanted.dimensions, extension, norm
    );
    IF bytes <= 7900 THEN
        EXECUTE format(
            'ALTER TABLE embedfleet.%I ALTER COLUMN embedding SET STORAGE PLAIN', vectors
        );
    END IF;
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
    embedfleet.create_relations(bigint), embedfleet.create_texts(bigint),
    embedfleet.view_of(bigint, bigint), embedfleet.grant_relations(bigint, bigint, text)
FROM PUBLIC;

-- name: move
-- What there is: copied while readers go on, then names and views change at once.
DO $$
DECLARE
    each record;
    ours record;
    documents text;
    chunks text;
    vectors text;
BEGIN
    LOCK TABLE embedfleet.document, embedfleet.chunk IN SHARE MODE;
    FOR each IN SELECT id, name, space_id FROM embedfleet.collection ORDER BY id LOOP
        documents := '_documents_' || each.id;
        chunks := '_chunks_' || each.id;
        PERFORM embedfleet.create_texts(each.id);
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
            'INSERT INTO embedfleet.%I
                (id, document_id, version, position, start_offset, end_offset, tokens, sha256, content,
                    metadata)
            OVERRIDING SYSTEM VALUE
            SELECT id, document_id, version, position, start_offset, end_offset, tokens, sha256, content,
                metadata
            FROM embedfleet.chunk
            WHERE collection_id = %s
            ORDER BY id',
            chunks, each.id
        );
        EXECUTE format(
            'SELECT setval(pg_get_serial_sequence(%L, ''id''), max(id)) FROM embedfleet.%I',
            format('embedfleet.%I', documents), documents
        );
        EXECUTE format(
            'SELECT setval(pg_get_serial_sequence(%L, ''id''), max(id)) FROM embedfleet.%I',
            format('embedfleet.%I', chunks), chunks
        );
        EXECUTE format('ANALYZE embedfleet.%I, embedfleet.%I', documents, chunks);
    END LOOP;
    FOR each IN SELECT id, name, space_id FROM embedfleet.collection ORDER BY id LOOP
        vectors := format('vectors_%s_%s', each.id, each.space_id);
        FOR ours IN
            SELECT k.relname AS name
            FROM pg_index AS i
            JOIN pg_class AS k ON k.oid = i.indexrelid
            WHERE i.indrelid = format('embedfleet.%I', vectors)::regclass
                AND starts_with(k.relname::text, vectors)
        LOOP
            EXECUTE format('ALTER INDEX embedfleet.%I RENAME TO %I', ours.name, '_' || ours.name);
        END LOOP;
        FOR ours IN
            SELECT conname AS name
            FROM pg_constraint
            WHERE conrelid = format('embedfleet.%I', vectors)::regclass AND contype IN ('c', 'n')
                AND starts_with(conname::text, vectors)
        LOOP
            EXECUTE format(
                'ALTER TABLE embedfleet.%I RENAME CONSTRAINT %I TO %I',
                vectors, ours.name, '_' || ours.name
            );
        END LOOP;
        EXECUTE format('ALTER TABLE embedfleet.%I RENAME TO %I', vectors, '_' || vectors);
        EXECUTE format(
            'CREATE OR REPLACE VIEW embedfleet.%I AS %s',
            each.name, embedfleet.view_of(each.id, each.space_id)
        );
        PERFORM embedfleet.grant_relations(each.id, each.space_id, each.name);
    END LOOP;
END
$$;

-- name: drop_shared
DROP TABLE embedfleet.chunk, embedfleet.document;
