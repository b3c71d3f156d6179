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
            WHERE d.id = %1$I.document_id AND d.live_version = %1$I.version
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
    EXECUTE format('GRANT SELECT, UPDATE (live_version) ON %s TO embedfleet_worker', documents);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_producer', chunks);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_worker', chunks);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO embedfleet_producer', texts);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO embedfleet_worker', texts);
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
            ('_documents_' || collection_id, 'SELECT (id, key, live_version)'),
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
        'CREATE VIEW embedfleet.%I WITH (security_invoker = on) AS %s',
        wanted.name, embedfleet.view_of(wanted.id, wanted.space_id)
    );
    PERFORM embedfleet.hide_drafts(wanted.id, wanted.space_id);
    PERFORM embedfleet.grant_relations(wanted.id, wanted.space_id, wanted.name);
END
$$;

-- name: create_expected_rows
-- How many rows the planner expects of a query of ours. On its own, because what is not volatile may
-- not EXPLAIN.
CREATE OR REPLACE FUNCTION embedfleet.expected_rows(query text) RETURNS double precision
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
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
            JOIN embedfleet.%I AS d ON d.id = c.document_id AND d.live_version = c.version
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

-- name: close_to_others
-- PostgreSQL lets everybody call a new function.
REVOKE ALL ON FUNCTION
    embedfleet.hide_drafts(bigint, bigint),
    embedfleet.grant_view(bigint, bigint, text, name),
    embedfleet.expected_rows(text),
    embedfleet.compared(bigint, jsonb, text, int, boolean)
FROM PUBLIC;

-- name: collections
SELECT id FROM embedfleet.collection ORDER BY id;

-- name: create_hide
-- One collection of before, in a transaction of its own; one that is done is left alone. Nobody enqueues
-- or commits meanwhile, or each could wait for the other. Who could read its view can read it as
-- before, for which they need rights on the tables now.
CREATE OR REPLACE FUNCTION embedfleet.hide_drafts_of(number bigint, lock_space int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each record;
    reader name;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_space, number::int);
    SELECT c.id, c.name, c.space_id, v.reloptions, v.relacl, v.relowner INTO each
    FROM embedfleet.collection AS c
    JOIN pg_class AS v ON v.oid = to_regclass(format('embedfleet.%I', c.name))
    WHERE c.id = number;
    IF NOT FOUND OR 'security_invoker=on' = ANY (each.reloptions) THEN
        RETURN;
    END IF;
    EXECUTE format('ALTER VIEW embedfleet.%I SET (security_invoker = on)', each.name);
    PERFORM embedfleet.hide_drafts(each.id, each.space_id);
    PERFORM embedfleet.grant_relations(each.id, each.space_id, each.name);
    FOR reader IN
        SELECT CASE a.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(a.grantee) END
        FROM aclexplode(each.relacl) AS a
        WHERE a.privilege_type = 'SELECT' AND a.grantee <> each.relowner
    LOOP
        PERFORM embedfleet.grant_view(each.id, each.space_id, each.name, reader);
    END LOOP;
END
$$;

-- name: hide
SELECT embedfleet.hide_drafts_of(%(number)s, %(lock_space)s);

-- name: drop_hide
DROP FUNCTION embedfleet.hide_drafts_of(bigint, int);
