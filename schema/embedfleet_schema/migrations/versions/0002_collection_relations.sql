-- name: grant_relations
-- Who may do what with the vector table and the view of one collection. Where the roles are not
-- in use the function belongs to another user, and nothing is granted.
CREATE FUNCTION embedfleet.grant_relations(vectors text, view text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, embedfleet, pg_temp AS $$
BEGIN
    IF current_user <> 'embedfleet_owner' THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT, DELETE ON embedfleet.%I TO embedfleet_producer', vectors);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON embedfleet.%I TO embedfleet_worker', vectors);
    EXECUTE format('GRANT SELECT ON embedfleet.%I TO embedfleet_search', view);
END
$$;

-- name: create_relations
-- The vector table and the view of a collection whose row is there. It runs with its owner's
-- rights, so that who creates collections needs no right to create tables; all that it puts into a
-- statement comes from columns with a CHECK.
--
-- The table is narrow on purpose: a wide row would push the vector out of line (TOAST). A row must
-- fit an 8 kB page to stay in line: 7,900 bytes of floats leave room for the key. The norm is
-- checked because pgvector accepts a zero vector, whose cosine distance is NaN and which no HNSW
-- index has. The view is what people query: the live chunks that have a vector.
CREATE FUNCTION embedfleet.create_relations(collection_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, embedfleet, pg_temp AS $$
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
    IF starts_with(wanted.name, 'vectors_') THEN
        RAISE EXCEPTION 'the names that start with vectors_ are taken' USING ERRCODE = '42939';
    END IF;
    SELECT n.nspname INTO STRICT extension
    FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector';
    vectors := format('vectors_%s_%s', wanted.id, wanted.space_id);
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
        'CREATE VIEW embedfleet.%I AS
        SELECT c.id, d.key AS document, c.position, c.content, c.metadata, v.embedding
        FROM embedfleet.%I AS v
        JOIN embedfleet.chunk AS c ON c.collection_id = %s AND c.sha256 = v.sha256
        JOIN embedfleet.document AS d ON d.id = c.document_id AND d.live_version = c.version',
        wanted.name, vectors, wanted.id
    );
    PERFORM embedfleet.grant_relations(vectors, wanted.name);
END
$$;

-- name: close_to_others
-- PostgreSQL lets everybody call a new function.
REVOKE ALL ON FUNCTION
    embedfleet.create_relations(bigint), embedfleet.grant_relations(text, text)
FROM PUBLIC;
