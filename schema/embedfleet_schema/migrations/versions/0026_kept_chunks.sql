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

-- name: create_view_of
-- What the view of a collection shows: the live chunks that have a vector.
CREATE OR REPLACE FUNCTION embedfleet.view_of(collection_id bigint, space_id bigint) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format(
        'SELECT c.id, d.key AS document, c.position, t.content, c.metadata, v.embedding
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

-- name: create_hide_drafts
-- Who reads the view of a collection reads its tables, and there row-level security gives them what is
-- live: it comes before any condition of theirs, below the join. The owner of the tables passes it
-- by, and so does the fleet (see grant_relations). A chunk asks its document; a text and a vector
-- ask for a chunk, which those who ask see only where it is live. OFFSET 0 keeps the planner from
-- hashing all live texts for the ten rows that an index scan gives.
CREATE OR REPLACE FUNCTION embedfleet.hide_drafts(collection_id bigint, space_id bigint)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    documents text := '_documents_' || collection_id;
    chunks text := '_chunks_' || collection_id;
    texts text := '_texts_' || collection_id;
    vectors text := format('_vectors_%s_%s', collection_id, space_id);
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[vectors, chunks, documents, texts] LOOP
        EXECUTE format('ALTER TABLE embedfleet.%I ENABLE ROW LEVEL SECURITY', each);
    END LOOP;
    EXECUTE format(
        'CREATE POLICY live ON embedfleet.%I FOR SELECT USING (live_version IS NOT NULL)', documents
    );
    EXECUTE format(
        'CREATE POLICY live ON embedfleet.%1$I FOR SELECT USING (EXISTS (
            SELECT FROM embedfleet.%2$I AS d
            WHERE d.id = %1$I.document_id
                AND (d.live_version = %1$I.version OR %1$I.id <@ d.live_kept)
        ))',
        chunks, documents
    );
    EXECUTE format(
        'CREATE POLICY live ON embedfleet.%1$I FOR SELECT USING (EXISTS (
            SELECT FROM embedfleet.%2$I AS c WHERE c.text_id = %1$I.id
        ))',
        texts, chunks
    );
    EXECUTE format(
        'CREATE POLICY live ON embedfleet.%1$I FOR SELECT USING (EXISTS (
            SELECT FROM embedfleet.%2$I AS c WHERE c.text_id = %1$I.text_id OFFSET 0
        ))',
        vectors, chunks
    );
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
    EXECUTE format('GRANT SELECT, UPDATE (live_version, live_kept) ON %s TO embedfleet_worker', documents);
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
            ('_texts_' || collection_id, 'SELECT (id, content)'),
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

-- name: create_compared
-- The k nearest of the live chunks with some metadata, each compared, in their order: an exact search.
-- `wanted` is a list of conditions that all hold, each a list of objects of which one is contained.
-- Unless `always`, it is NULL where a scan of the HNSW index is the better way: where no index finds
-- the chunks, or too many match. A scan for k rows of a share s of n looks at k / s of them and
-- costs some seven times as much for each: both ways cost the same at sqrt(7 k n) rows. Bitmaps
-- of many rows take time too, so the planner is asked first, whose guess may be four times too high.
--
-- It runs with its owner's rights, which no policy slows, and who may read all views may call it.
CREATE OR REPLACE FUNCTION embedfleet.compared(
    collection_id bigint, wanted jsonb, query text, k int, always boolean
)
RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chunks text := '_chunks_' || collection_id;
    scans text := current_setting('enable_seqscan');
    own record;
    condition text;
    most bigint;
    nearest bigint[];
BEGIN
    SELECT c.space_id, s.storage, e.nspname AS extension,
        CASE s.metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' ELSE '<#>' END AS operator,
        h.reltuples, h.oid AS chunks
    INTO own
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    JOIN pg_class AS h ON h.oid = to_regclass(format('embedfleet.%I', chunks))
    JOIN pg_extension AS v ON v.extname = 'vector'
    JOIN pg_namespace AS e ON e.oid = v.extnamespace
    WHERE c.id = compared.collection_id;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('collection %s was dropped', collection_id);
    END IF;
    SELECT coalesce(string_agg('(' || a.either || ')', ' AND '), 'true') INTO condition
    FROM jsonb_array_elements(wanted) AS w (conditions)
    CROSS JOIN LATERAL (
        SELECT string_agg(format('c.metadata @> %L::jsonb', o.object), ' OR ') AS either
        FROM jsonb_array_elements(w.conditions) AS o (object)
    ) AS a;
    IF NOT always THEN
        most := least(10000, greatest(1000, sqrt(7.0 * k * greatest(own.reltuples, 0))));
        IF NOT EXISTS (
                SELECT
                FROM pg_index AS i
                JOIN pg_class AS x ON x.oid = i.indexrelid
                JOIN pg_am AS m ON m.oid = x.relam AND m.amname = 'gin'
                JOIN pg_attribute AS t ON t.attrelid = i.indrelid AND t.attname = 'metadata'
                WHERE i.indrelid = own.chunks AND i.indisvalid AND i.indpred IS NULL
                    AND t.attnum = ANY (i.indkey)
            )
            OR embedfleet.expected_rows(
                format('SELECT FROM embedfleet.%I AS c WHERE %s', chunks, condition)
            ) > 4 * most
        THEN
            RETURN NULL;
        END IF;
        PERFORM set_config('enable_seqscan', 'off', true);
    END IF;
    EXECUTE format(
        'WITH matching AS %s (
            SELECT c.id, c.text_id
            FROM embedfleet.%I AS c
            JOIN embedfleet.%I AS d ON d.id = c.document_id
                AND (d.live_version = c.version OR c.id <@ d.live_kept)
            WHERE %s
            LIMIT %s
        )
        SELECT CASE WHEN %L OR (SELECT count(*) FROM matching) <= %s THEN ARRAY(
            SELECT m.id
            FROM matching AS m
            JOIN embedfleet.%I AS v ON v.text_id = m.text_id
            ORDER BY (v.embedding OPERATOR(%I.%s) %L::%I.%I) + 0, m.id
            LIMIT %s
        ) END',
        CASE WHEN always THEN 'NOT MATERIALIZED' ELSE 'MATERIALIZED' END,
        chunks, '_documents_' || collection_id, condition, coalesce((most + 1)::text, 'ALL'),
        always, coalesce(most, 0), format('_vectors_%s_%s', collection_id, own.space_id),
        own.extension, own.operator, query, own.extension, own.storage, k
    )
    INTO nearest;
    PERFORM set_config('enable_seqscan', scans, true);
    RETURN nearest;
END
$$;

-- name: collections
SELECT id FROM embedfleet.collection ORDER BY id;

-- name: create_share
-- One collection of before, in a transaction of its own, and safe to run again. Nobody enqueues or
-- commits meanwhile. Who may read which version is live may read what is live of former ones.
CREATE OR REPLACE FUNCTION embedfleet.share_chunks_of(number bigint, lock_space int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    documents text := '_documents_' || number;
    chunks text := '_chunks_' || number;
    own record;
    given record;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_space, number::int);
    SELECT c.name, c.space_id INTO own FROM embedfleet.collection AS c WHERE c.id = number;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    EXECUTE format(
        'ALTER TABLE embedfleet.%I
        ADD COLUMN IF NOT EXISTS kept int8multirange,
        ADD COLUMN IF NOT EXISTS live_kept int8multirange',
        documents
    );
    FOR given IN
        SELECT a.privilege_type AS privilege,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                AS grantee
        FROM pg_attribute AS t
        CROSS JOIN LATERAL aclexplode(t.attacl) AS a
        WHERE t.attrelid = format('embedfleet.%I', documents)::regclass
            AND t.attname = 'live_version'
    LOOP
        EXECUTE format(
            'GRANT %s (live_kept) ON embedfleet.%I TO %s', given.privilege, documents, given.grantee
        );
    END LOOP;
    EXECUTE format(
        'ALTER POLICY live ON embedfleet.%1$I USING (EXISTS (
            SELECT FROM embedfleet.%2$I AS d
            WHERE d.id = %1$I.document_id
                AND (d.live_version = %1$I.version OR %1$I.id <@ d.live_kept)
        ))',
        chunks, documents
    );
    EXECUTE format(
        'CREATE OR REPLACE VIEW embedfleet.%I WITH (security_invoker = on) AS %s',
        own.name, embedfleet.view_of(number, own.space_id)
    );
END
$$;

-- name: share
SELECT embedfleet.share_chunks_of(%(number)s, %(lock_space)s);

-- name: drop_share
DROP FUNCTION embedfleet.share_chunks_of(bigint, int);
