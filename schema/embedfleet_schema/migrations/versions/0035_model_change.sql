-- name: create_model_change
-- A collection that gets another model, while that fills: `other_id` is kept equal to `collection_id`,
-- which has the name and serves. When the two change places, so do the columns, and `switched_at` is set
-- while the newer one serves. `listed_to` is the key up to which the documents of the first one are listed
-- as changed, and `listed` says that all are.
CREATE TABLE embedfleet.model_change (
    collection_id bigint CONSTRAINT pk_model_change PRIMARY KEY
        CONSTRAINT fk_model_change_collection_id_collection REFERENCES embedfleet.collection (id),
    other_id bigint NOT NULL CONSTRAINT uq_model_change_other_id UNIQUE
        CONSTRAINT fk_model_change_other_id_collection REFERENCES embedfleet.collection (id),
    name text NOT NULL,
    keep_seconds double precision NOT NULL
        CONSTRAINT ck_model_change_keep_seconds CHECK (keep_seconds >= 0),
    began_at timestamptz NOT NULL DEFAULT now(),
    listed_to text NOT NULL DEFAULT '',
    listed boolean NOT NULL DEFAULT false,
    switched_at timestamptz
);

-- name: create_document_change
-- A document of a collection that another one follows, by its key: it was stored, replaced or removed, and
-- the other one does not have that yet. Rows are only added, so no change waits for another; who follows
-- removes the row that it has done.
CREATE TABLE embedfleet.document_change (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_document_change PRIMARY KEY,
    collection_id bigint NOT NULL
        CONSTRAINT fk_document_change_collection_id_collection
        REFERENCES embedfleet.collection (id) ON DELETE CASCADE,
    key text NOT NULL
);

-- name: index_document_change
CREATE INDEX ix_document_change_collection_id_id ON embedfleet.document_change (collection_id, id);

-- name: create_successor
-- What serves in the place of a collection that was dropped when its model change was finished.
CREATE TABLE embedfleet.successor (
    collection_id bigint CONSTRAINT pk_successor PRIMARY KEY,
    successor_id bigint NOT NULL CONSTRAINT fk_successor_successor_id_collection
        REFERENCES embedfleet.collection (id) ON DELETE CASCADE
);

-- name: index_successor
CREATE INDEX ix_successor_successor_id ON embedfleet.successor (successor_id);

-- name: create_note_change
-- The trigger of a collection that another one follows. It sees each change, whichever program makes it,
-- and runs with its owner's rights: who stores documents needs none on the list.
CREATE FUNCTION embedfleet.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO embedfleet.document_change (collection_id, key)
    VALUES (TG_ARGV[0]::bigint, coalesce(NEW.key, OLD.key));
    RETURN NULL;
END
$$;

-- name: close_note_change
REVOKE ALL ON FUNCTION embedfleet.note_change() FROM PUBLIC;

-- name: create_changed_documents
-- How many documents a collection that follows another one does not have as they are. A number is all that
-- who may not read their keys is told.
CREATE FUNCTION embedfleet.changed_documents(collection_id bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT count(DISTINCT c.key)
        FROM embedfleet.document_change AS c
        WHERE c.collection_id = changed_documents.collection_id
    );
END
$$;

-- name: close_changed_documents
REVOKE ALL ON FUNCTION embedfleet.changed_documents(bigint) FROM PUBLIC;

-- name: drop_space_of
DROP FUNCTION embedfleet.space_of(text);

-- name: create_space_of
-- What a search needs to know of a collection. Whoever reads one view may not read the table of all
-- collections; what is told here is in PostgreSQL's catalog, too, which everybody can read, but for two
-- settings.
--
-- Of several indexes the newest one is used: a new one takes over when it is valid, and the former one may go.
-- `live` is the query of the view, by the number of the collection: a function that reads it and not the view
-- reads the collection that it was told of, also if another one gets the name at that moment.
--
-- Vectors of two spaces are not to be compared. Who has a vector sets embedfleet.space to the `fingerprint` of
-- its space, and every search of another space is refused.
--
-- `key` is what it is on, of a column `embedding`; `scan_operator` compares that with `scan_query`, in which %s is
-- the vector that is asked for.
CREATE FUNCTION embedfleet.space_of(
    collection text, OUT id bigint, OUT vectors text, OUT rows double precision,
    OUT extension text, OUT type text, OUT vector text, OUT operator text, OUT score text,
    OUT indexed boolean, OUT method text, OUT index_type text, OUT lists int, OUT key text,
    OUT scan_operator text, OUT scan_query text, OUT ef_search int, OUT probes int,
    OUT live text, OUT fingerprint text
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT c.id, v.relname, v.reltuples, quote_ident(e.nspname),
        format('%I.%I', e.nspname, s.storage), format('%I.vector', e.nspname),
        format('OPERATOR(%I.%s)', e.nspname, m.operator),
        CASE s.metric WHEN 'cosine' THEN '1 - distance' ELSE '- distance' END,
        i.index IS NOT NULL, i.method, i.type, i.lists, coalesce(i.expression, 'embedding'),
        format('OPERATOR(%I.%s)', e.nspname, CASE i.type WHEN 'bit' THEN '<~>' ELSE m.operator END),
        CASE
            WHEN i.type = 'bit' THEN format('%1$I.binary_quantize(%%s::%1$I.%2$I)', e.nspname, s.storage)
            -- Of a question that float16 could not hold the cosine stays the same.
            WHEN i.type <> s.storage AND s.metric = 'cosine'
                THEN format('%1$I.l2_normalize(%%s::%1$I.%2$I)::%1$I.halfvec', e.nspname, s.storage)
            ELSE format('%%s::%I.%I', e.nspname, coalesce(i.type, s.storage))
        END,
        coalesce(w.ef_search, CASE i.type WHEN 'bit' THEN 400 ELSE 100 END),
        coalesce(w.probes, ceil(2 * sqrt(i.lists))), embedfleet.view_of(c.id, c.space_id),
        encode(s.fingerprint, 'hex')
    INTO id, vectors, rows, extension, type, vector, operator, score, indexed, method, index_type, lists,
        key, scan_operator, scan_query, ef_search, probes, live, fingerprint
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    JOIN pg_class AS v
        ON v.oid = to_regclass(format('embedfleet.%I', format('_vectors_%s_%s', c.id, c.space_id)))
    JOIN pg_extension AS x ON x.extname = 'vector'
    JOIN pg_namespace AS e ON e.oid = x.extnamespace
    LEFT JOIN embedfleet.collection_index AS w ON w.collection_id = c.id
    CROSS JOIN LATERAL (
        SELECT CASE s.metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' ELSE '<#>' END AS operator
    ) AS m
    LEFT JOIN LATERAL (
        SELECT f.*
        FROM embedfleet.vector_indexes(v.oid) AS f
        WHERE f.valid
            AND f.metric IN ('hamming', CASE s.metric WHEN 'inner_product' THEN 'ip' ELSE s.metric END)
        ORDER BY f.index DESC
        LIMIT 1
    ) AS i ON true
    WHERE c.name = space_of.collection;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('there is no collection %L', collection);
    END IF;
    IF nullif(current_setting('embedfleet.space', true), '') <> fingerprint THEN
        RAISE SQLSTATE 'EF001' USING
            MESSAGE = format('the collection %s has another model than the vector', collection),
            HINT = 'Embed the text again. embedfleet.space_of has the fingerprint of the model.';
    END IF;
END
$$;

-- name: create_check_reader
-- Who searches must be able to read the view, though its tables are read by number.
CREATE FUNCTION embedfleet.check_reader(collection text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT has_any_column_privilege(to_regclass(format('embedfleet.%I', collection)), 'SELECT') THEN
        RAISE insufficient_privilege USING MESSAGE = format('permission denied for view %I', collection);
    END IF;
END
$$;

-- name: create_search
-- The k chunks nearest to a vector, best first; fewer only where fewer match or score `min_score`. It
-- runs with the rights of who calls it, for whom the view and its policies hold. It writes nothing.
--
-- Without a filter the index is scanned. With one, `compared` is asked whether few enough chunks
-- match to compare each. Where the scan comes back short, all that match are compared: so it is
-- complete. Who may not call `compared` gets the same rows by the view, less quickly.
--
-- What the index gives is sorted by the vectors themselves. An index of signs tells near from far only
-- roughly: all of its candidates are compared, and its scan counts as one for so many.
--
-- Candidates (HNSW): what was set for the collection, else twice as many as are asked for, at least 100, or 400 of
-- an index of signs, and with a filter ten times as many: it keeps few of them. Lists (IVFFlat): what was set,
-- else twice the square root of how many there are. Who sets hnsw.ef_search or ivfflat.probes higher gets more. With a filter a scan goes as far as an
-- eighth of the table: beyond, it is quicker to compare all that match, and so it is for more than 500 hits.
--
-- The joins of the view are in the order in which they are best done.
CREATE OR REPLACE FUNCTION embedfleet.search(
    collection text, query {vector}, k int DEFAULT 10, filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL, exact boolean DEFAULT false
)
RETURNS TABLE (
    id bigint, document text, "position" int, content text, metadata jsonb,
    score double precision
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET join_collapse_limit = 1
SET jit = off
AS $$
DECLARE
    own record;
    may_compare boolean := has_function_privilege(
        'embedfleet.compared(bigint, jsonb, text, int, boolean)', 'EXECUTE'
    );
    condition text := CASE WHEN filter IS NULL THEN 'true'
        ELSE embedfleet.filter_condition(filter) END;
    filtered boolean := condition <> 'true';
    source text;
    gathered text := 'SELECT array_agg(id), array_agg(document), array_agg(position),
        array_agg(content), array_agg(metadata), array_agg(%s) FROM (%s) AS r';
    width int;
    candidates int := k;
    joins text[];
    former text[];
    nearest bigint[];
    ids bigint[];
    documents text[];
    positions int[];
    contents text[];
    metadatas jsonb[];
    scores double precision[];
BEGIN
    IF query IS NULL OR k IS NULL OR k < 1 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a search takes a vector, and k from 1 on';
    END IF;
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    PERFORM embedfleet.check_reader(collection);
    source := format(
        'SELECT id, document, position, content, metadata, embedding %s $1::%s AS distance'
        ' FROM (%s) AS live', own.operator, own.type, own.live
    );
    exact := coalesce(exact, false) OR NOT own.indexed;
    IF NOT exact THEN
        width := CASE own.method
            WHEN 'ivfflat' THEN greatest(
                own.probes, nullif(current_setting('ivfflat.probes', true), '')::int
            )
            ELSE greatest(
                own.ef_search, 2 * k,
                CASE WHEN filtered THEN greatest(400, 10 * k) END,
                CASE WHEN own.index_type = 'bit' THEN 10 * k END,
                nullif(current_setting('hnsw.ef_search', true), '')::int
            )
        END;
        IF own.index_type = 'bit' THEN
            candidates := greatest(k, width);
        END IF;
    END IF;
    IF may_compare AND (filtered OR exact) THEN
        nearest := (embedfleet.compared(
            own.id, coalesce(filter, '{}'), query::text, candidates, exact OR k > 500
        ))[1:k];
    END IF;
    IF nearest IS NULL AND NOT exact THEN
        former := embedfleet.set_scan(
            own.method, CASE own.method WHEN 'ivfflat' THEN width ELSE least(width, 1000) END,
            CASE
                WHEN own.method = 'ivfflat' THEN CASE WHEN filtered THEN greatest(width, own.lists / 8)
                    ELSE own.lists END
                WHEN filtered THEN least(1000000, greatest(1, own.rows / 8))
                ELSE greatest(20000, 2 * candidates)
            END::int
        );
        -- What comes out of a scan is looked up row by row. Not to think of other ways takes a quarter
        -- off the planning, which is done at each call.
        joins := ARRAY[current_setting('enable_hashjoin'), current_setting('enable_mergejoin')];
        PERFORM set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);
        EXECUTE format(
            gathered, own.score, format(
                'SELECT * FROM (%s WHERE %s ORDER BY %s %s %s LIMIT %s) AS n'
                ' ORDER BY distance + 0, id LIMIT %s',
                source, condition, own.key, own.scan_operator, format(own.scan_query, '$1'), candidates, k
            )
        )
        INTO ids, documents, positions, contents, metadatas, scores USING query;
        PERFORM embedfleet.restore_scan(former);
        PERFORM set_config('enable_hashjoin', joins[1], true),
            set_config('enable_mergejoin', joins[2], true);
        IF coalesce(cardinality(ids), 0) < k AND may_compare THEN
            nearest := embedfleet.compared(own.id, coalesce(filter, '{}'), query::text, k, true);
        END IF;
    END IF;
    IF nearest IS NOT NULL THEN
        source := source || ' WHERE id = ANY ($2) ORDER BY distance, id';
    ELSIF coalesce(cardinality(ids), 0) < k THEN
        source := format('%s WHERE %s ORDER BY (embedding %s $1::%s) + 0, id LIMIT %s',
            source, condition, own.operator, own.type, k);
    END IF;
    IF nearest IS NOT NULL OR coalesce(cardinality(ids), 0) < k THEN
        EXECUTE format(gathered, own.score, source)
        INTO ids, documents, positions, contents, metadatas, scores USING query, nearest;
    END IF;
    RETURN QUERY SELECT r.*
    FROM unnest(ids, documents, positions, contents, metadatas, scores)
        AS r (id, document, position, content, metadata, score)
    WHERE min_score IS NULL OR r.score >= min_score;
END
$$;

-- name: create_similar
-- Documents like a document, by the best pair of their chunks: `position` is that of the other document's
-- chunk, `own_position` that of this one's.
CREATE OR REPLACE FUNCTION embedfleet.similar(
    collection text, key text, k int DEFAULT 10, threshold double precision DEFAULT NULL
)
RETURNS TABLE (
    id bigint, document text, "position" int, own_position int, content text, metadata jsonb,
    score double precision
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    own_positions int[];
    vectors {vector}[];
BEGIN
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    PERFORM embedfleet.check_reader(collection);
    EXECUTE format(
        'SELECT array_agg(position), array_agg(embedding::%s) FROM (%s) AS live WHERE document = $1',
        own.vector, own.live
    )
    INTO own_positions, vectors USING key;
    IF vectors IS NULL THEN
        RAISE no_data_found USING MESSAGE = format(
            'the collection %s has no live document %s', collection, to_json(key)
        );
    END IF;
    RETURN QUERY
    SELECT b.*
    FROM (
        SELECT DISTINCT ON (s.document) s.id, s.document, s.position, o.own_position, s.content,
            s.metadata, s.score
        FROM unnest(own_positions, vectors) AS o (own_position, embedding)
        CROSS JOIN LATERAL embedfleet.nearest_documents(
            collection, o.embedding, k,
            jsonb_build_object('not', jsonb_build_object('document', jsonb_build_object('eq', key))),
            threshold
        ) AS s
        ORDER BY s.document, s.score DESC, s.id
    ) AS b
    ORDER BY b.score DESC, b.id
    LIMIT k;
END
$$;

-- name: create_neighbours
-- A chunk with those before and after it in its document.
CREATE OR REPLACE FUNCTION embedfleet.neighbours(
    collection text, chunk bigint, before int DEFAULT 1, after int DEFAULT 1
)
RETURNS TABLE (id bigint, document text, "position" int, content text, metadata jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
BEGIN
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    PERFORM embedfleet.check_reader(collection);
    RETURN QUERY EXECUTE format(
        'SELECT v.id, v.document, v.position, v.content, v.metadata
        FROM (SELECT document, position FROM (%1$s) AS live WHERE id = $1) AS hit
        JOIN (%1$s) AS v ON v.document = hit.document
            AND v.position BETWEEN hit.position - $2 AND hit.position + $3
        ORDER BY v.position',
        own.live
    )
    USING chunk, before, after;
END
$$;

-- name: create_diverse
-- Hits that are near to the question and not near to each other: maximal marginal relevance (Carbonell and
-- Goldstein, SIGIR 1998) over the nearest `candidates`. A `weight` of 1 is the search itself, one of 0 looks
-- only at how the hits differ. Both are measured by the cosine.
CREATE OR REPLACE FUNCTION embedfleet.diverse(
    collection text, query {vector}, k int DEFAULT 10, filter jsonb DEFAULT NULL,
    weight double precision DEFAULT 0.5, candidates int DEFAULT 50
)
RETURNS TABLE (
    id bigint, document text, "position" int, content text, metadata jsonb,
    score double precision
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    ids bigint[];
    documents text[];
    positions int[];
    contents text[];
    metadatas jsonb[];
    scores double precision[];
    relevance double precision[];
    alike double precision[];
    closest double precision[];
    chosen int[];
    best int;
    most double precision;
    value double precision;
    count int;
BEGIN
    IF NOT coalesce(weight BETWEEN 0 AND 1, false) OR candidates IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'weight is a number from 0 to 1';
    END IF;
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    SELECT array_agg(s.id), array_agg(s.document), array_agg(s.position), array_agg(s.content),
        array_agg(s.metadata), array_agg(s.score)
    INTO ids, documents, positions, contents, metadatas, scores
    FROM embedfleet.search(collection, query, greatest(k, candidates), filter) AS s;
    count := coalesce(cardinality(ids), 0);
    EXECUTE format(
        'WITH c AS MATERIALIZED (
            SELECT u.number, v.embedding
            FROM unnest($1) WITH ORDINALITY AS u (id, number)
            JOIN (%1$s) AS v USING (id)
        )
        SELECT (
                SELECT array_agg(1 - (c.embedding OPERATOR(%2$s.<=>) $2::%3$s) ORDER BY c.number)
                FROM c
            ),
            (
                SELECT array_agg(
                    1 - (a.embedding OPERATOR(%2$s.<=>) b.embedding) ORDER BY a.number, b.number
                )
                FROM c AS a CROSS JOIN c AS b
            )',
        own.live, own.extension, own.type
    )
    INTO relevance, alike USING ids, query;
    closest := array_fill(NULL::double precision, ARRAY[count]);
    FOR round IN 1..least(k, count) LOOP
        best := NULL;
        FOR each IN 1..count LOOP
            CONTINUE WHEN each = ANY (chosen);
            value := weight * relevance[each] - (1 - weight) * coalesce(closest[each], 0);
            IF best IS NULL OR value > most THEN
                best := each;
                most := value;
            END IF;
        END LOOP;
        chosen := chosen || best;
        FOR each IN 1..count LOOP
            closest[each] := greatest(closest[each], alike[(best - 1) * count + each]);
        END LOOP;
    END LOOP;
    RETURN QUERY SELECT ids[c.n], documents[c.n], positions[c.n], contents[c.n], metadatas[c.n], scores[c.n]
    FROM unnest(chosen) WITH ORDINALITY AS c (n, place)
    ORDER BY c.place;
END
$$;

-- name: create_hybrid_search
-- Words and meaning: two lists of `candidates` chunks, fused by reciprocal rank (Cormack, Clarke and
-- Buettcher, SIGIR 2009), so that their scores need not be comparable.
CREATE OR REPLACE FUNCTION embedfleet.hybrid_search(
    collection text, question text, query {vector}, k int DEFAULT 10, filter jsonb DEFAULT NULL,
    language regconfig DEFAULT NULL, text_weight double precision DEFAULT 1,
    vector_weight double precision DEFAULT 1, constant int DEFAULT 60, candidates int DEFAULT 100
)
RETURNS TABLE (
    id bigint, document text, "position" int, content text, metadata jsonb,
    score double precision, text_rank int, vector_rank int
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    by_words text := CASE WHEN has_function_privilege(
        'embedfleet.matched_by_owner(text, text, regconfig, jsonb, int)', 'EXECUTE'
    ) THEN 'matched_by_owner' ELSE 'matched' END;
    own record;
BEGIN
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    IF question IS NULL OR num_nulls(text_weight, vector_weight, constant, candidates) > 0 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a hybrid search takes a text and a vector';
    END IF;
    candidates := greatest(k, candidates);
    RETURN QUERY EXECUTE format(
        'WITH words AS (
            SELECT m.id, row_number() OVER (ORDER BY m.score DESC, m.id)::int AS rank
            FROM embedfleet.%I($1, $2, $3, $4, $5) AS m
        ), meaning AS (
            SELECT s.id, row_number() OVER (ORDER BY s.score DESC, s.id)::int AS rank
            FROM embedfleet.search($1, $6, $5, $4) AS s
        ), fused AS (
            SELECT id, coalesce($7 / ($9 + w.rank), 0) + coalesce($8 / ($9 + m.rank), 0) AS score,
                w.rank AS text_rank, m.rank AS vector_rank
            FROM words AS w
            FULL JOIN meaning AS m USING (id)
            ORDER BY score DESC, id
            LIMIT $10
        )
        SELECT v.id, v.document, v.position, v.content, v.metadata, f.score, f.text_rank, f.vector_rank
        FROM (%s) AS v
        JOIN fused AS f USING (id)
        ORDER BY f.score DESC, v.id',
        by_words, own.live
    )
    USING collection, question, coalesce(language, embedfleet.text_language(collection), 'simple'), filter,
        candidates, query, text_weight, vector_weight, constant, k;
END
$$;

-- name: create_show_as
-- The view of a collection under a name, in the place of what that showed before if its columns are the same:
-- then all that reads the view reads the collection from now on.
CREATE FUNCTION embedfleet.show_as(collection_id bigint, space_id bigint, view text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW embedfleet.%I WITH (security_invoker = on) AS %s',
        view, embedfleet.view_of(collection_id, space_id)
    );
END
$$;

-- name: close_show_as
REVOKE ALL ON FUNCTION embedfleet.show_as(bigint, bigint, text) FROM PUBLIC;

-- name: open_kinds_of_jobs
ALTER TABLE embedfleet.job DROP CONSTRAINT ck_job_kind;

-- name: close_kinds_of_jobs
ALTER TABLE embedfleet.job
    ADD CONSTRAINT ck_job_kind CHECK (kind IN ('enqueue', 'repair', 'retry', 'template', 'migrate'));
