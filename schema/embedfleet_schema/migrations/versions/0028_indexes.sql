-- name: create_settings
-- What a person set: how far the index of a collection is searched, and whether it follows its loads. Without
-- a row, and where a setting is NULL, `search` decides.
CREATE TABLE embedfleet.collection_index (
    collection_id bigint CONSTRAINT pk_collection_index PRIMARY KEY
        CONSTRAINT fk_collection_index_collection_id_collection
        REFERENCES embedfleet.collection (id) ON DELETE CASCADE,
    ef_search int CONSTRAINT ck_collection_index_ef_search CHECK (ef_search BETWEEN 1 AND 1000),
    probes int CONSTRAINT ck_collection_index_probes CHECK (probes BETWEEN 1 AND 32768),
    policy text NOT NULL DEFAULT 'manual'
        CONSTRAINT ck_collection_index_policy CHECK (policy IN ('manual', 'auto'))
);

-- name: create_vector_indexes
-- The indexes on a table of vectors that a search knows how to use, whoever built them: on the vectors, on
-- them as float16, or on their signs. What is expected of an expression stands here alone; searches
-- repeat what the catalog says.
CREATE FUNCTION embedfleet.vector_indexes(vectors regclass)
RETURNS TABLE (
    index oid, name name, valid boolean, method name, type name, metric text, expression text, lists int
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT x.oid, x.relname, i.indisvalid, m.amname, t.typname,
        substring(o.opcname::text FROM '_(cosine|l2|ip|hamming)_ops$'),
        coalesce(e.expression, 'embedding'),
        CASE m.amname WHEN 'ivfflat' THEN coalesce((
            SELECT p.option_value::int
            FROM pg_options_to_table(x.reloptions) AS p
            WHERE p.option_name = 'lists'
        ), 100) END
    FROM pg_index AS i
    JOIN pg_class AS x ON x.oid = i.indexrelid
    JOIN pg_am AS m ON m.oid = x.relam AND m.amname IN ('hnsw', 'ivfflat')
    JOIN pg_opclass AS o ON o.oid = i.indclass[0]
    JOIN pg_type AS t ON t.oid = o.opcintype
    JOIN pg_namespace AS n ON n.oid = o.opcnamespace
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = 'embedding'
    CROSS JOIN LATERAL pg_get_expr(i.indexprs, i.indrelid) AS e (expression)
    WHERE i.indrelid = vectors AND i.indpred IS NULL AND i.indnatts = 1
        AND (
            i.indkey[0] = a.attnum
            OR e.expression IN (
                format('(embedding)::%I.halfvec(%s)', n.nspname, a.atttypmod),
                format('(%1$I.l2_normalize(embedding))::%1$I.halfvec(%2$s)', n.nspname, a.atttypmod),
                format('(%I.binary_quantize(embedding))::bit(%s)', n.nspname, a.atttypmod)
            )
        )
$$;

-- name: drop_former
DROP FUNCTION embedfleet.space_of(text);
DROP FUNCTION embedfleet.set_scan(int, int);
DROP FUNCTION embedfleet.search(text, {vector}, int, jsonb, double precision);

-- name: create_space_of
-- What a search needs to know of a collection. Whoever reads one view may not read the table of all
-- collections; what is told here is in PostgreSQL's catalog, too, which everybody can read, but for two
-- settings.
--
-- Of several indexes the newest one is used: a new one takes over when it is valid, and the former one may go.
-- `key` is what it is on, of a column `embedding`; `scan_operator` compares that with `scan_query`, in which %s is
-- the vector that is asked for.
CREATE FUNCTION embedfleet.space_of(
    collection text, OUT id bigint, OUT vectors text, OUT rows double precision,
    OUT extension text, OUT type text, OUT vector text, OUT operator text, OUT score text,
    OUT indexed boolean, OUT method text, OUT index_type text, OUT lists int, OUT key text,
    OUT scan_operator text, OUT scan_query text, OUT ef_search int, OUT probes int
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
        coalesce(w.probes, ceil(2 * sqrt(i.lists)))
    INTO id, vectors, rows, extension, type, vector, operator, score, indexed, method, index_type, lists,
        key, scan_operator, scan_query, ef_search, probes
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
END
$$;

-- name: create_set_scan
-- How an index is scanned, until `restore_scan` is given what this returns: how many candidates are kept, or
-- lists are read, at a time, and how many rows, or lists, the scan may come to until enough is found. The
-- other limit of an HNSW scan, of memory, is put beyond that. Not as clauses of a function: to create one with
-- them, as a restored dump does, takes a superuser or a session that has used pgvector.
CREATE FUNCTION embedfleet.set_scan(method text, width int, furthest int) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former text[];
BEGIN
    IF method = 'ivfflat' THEN
        former := ARRAY[
            'ivfflat', current_setting('ivfflat.iterative_scan', true),
            current_setting('ivfflat.probes', true), current_setting('ivfflat.max_probes', true)
        ];
        PERFORM set_config('ivfflat.iterative_scan', 'relaxed_order', true),
            set_config('ivfflat.probes', width::text, true),
            set_config('ivfflat.max_probes', furthest::text, true);
        RETURN former;
    END IF;
    former := ARRAY[
        'hnsw', current_setting('hnsw.iterative_scan', true), current_setting('hnsw.ef_search', true),
        current_setting('hnsw.max_scan_tuples', true), current_setting('hnsw.scan_mem_multiplier', true)
    ];
    PERFORM set_config('hnsw.iterative_scan', 'relaxed_order', true),
        set_config('hnsw.ef_search', width::text, true),
        set_config('hnsw.max_scan_tuples', furthest::text, true),
        set_config('hnsw.scan_mem_multiplier', '1000', true);
    RETURN former;
END
$$;

-- name: create_restore_scan
CREATE OR REPLACE FUNCTION embedfleet.restore_scan(former text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF former[1] = 'ivfflat' THEN
        PERFORM set_config('ivfflat.iterative_scan', former[2], true),
            set_config('ivfflat.probes', former[3], true),
            set_config('ivfflat.max_probes', former[4], true);
    ELSE
        PERFORM set_config('hnsw.iterative_scan', former[2], true),
            set_config('hnsw.ef_search', former[3], true),
            set_config('hnsw.max_scan_tuples', former[4], true),
            set_config('hnsw.scan_mem_multiplier', former[5], true);
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
CREATE FUNCTION embedfleet.search(
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
    source := format(
        'SELECT id, document, position, content, metadata, embedding %s $1::%s AS distance'
        ' FROM embedfleet.%I', own.operator, own.type, collection
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

-- name: create_near_texts
-- Pairs of texts whose vectors score at least `threshold`, each once. `exact` compares each with each; else the
-- index gives the ten nearest of each, and eight times as many where all of those are near enough. Of an index of
-- signs ten times as many are compared.
CREATE OR REPLACE FUNCTION embedfleet.near_texts(
    collection text, threshold double precision, exact boolean,
    OUT one bigint[], OUT other bigint[], OUT score double precision[]
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    former text[];
    nearest int := 11;
    compared int;
    texts bigint[];
    more_one bigint[];
    more_other bigint[];
    more_score double precision[];
    gathered text := 'array_agg(one), array_agg(other), array_agg(score)';
BEGIN
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    IF exact THEN
        EXECUTE format(
            'WITH v AS MATERIALIZED (SELECT text_id, embedding FROM embedfleet.%I)
            SELECT %s
            FROM (
                SELECT one, other, %s AS score
                FROM (
                    SELECT a.text_id AS one, b.text_id AS other, a.embedding %s b.embedding AS distance
                    FROM v AS a JOIN v AS b ON a.text_id < b.text_id
                ) AS p
            ) AS s
            WHERE score >= $1',
            own.vectors, gathered, own.score, own.operator
        )
        INTO one, other, score USING threshold;
        RETURN;
    END IF;
    compared := CASE own.index_type WHEN 'bit' THEN 10 ELSE 1 END;
    former := embedfleet.set_scan(
        own.method, CASE own.method WHEN 'ivfflat' THEN own.probes ELSE greatest(40, compared * nearest) END,
        CASE own.method WHEN 'ivfflat' THEN own.lists ELSE 20000 END
    );
    LOOP
        EXECUTE format(
            'WITH near AS MATERIALIZED (
                SELECT one, other, %s AS score
                FROM (
                    SELECT a.one, n.other, n.distance
                    FROM (
                        SELECT text_id AS one, embedding AS wanted
                        FROM embedfleet.%2$I
                        WHERE $2 IS NULL OR text_id = ANY ($2)
                    ) AS a
                    CROSS JOIN LATERAL (
                        SELECT c.other, c.distance
                        FROM (
                            SELECT text_id AS other, embedding %3$s a.wanted AS distance
                            FROM embedfleet.%2$I
                            ORDER BY %6$s %7$s %8$s
                            LIMIT %9$s
                        ) AS c
                        ORDER BY c.distance + 0
                        LIMIT %4$s
                    ) AS n
                ) AS p
            ), enough AS (
                SELECT * FROM near WHERE score >= $1
            )
            SELECT %5$s, (
                SELECT array_agg(full_one)
                FROM (SELECT one FROM enough GROUP BY one HAVING count(*) >= %4$s) AS f (full_one)
            )
            FROM enough
            WHERE one <> other',
            own.score, own.vectors, own.operator, nearest, gathered, own.key, own.scan_operator,
            format(own.scan_query, 'a.wanted'), compared * nearest
        )
        INTO more_one, more_other, more_score, texts USING threshold, texts;
        one := one || more_one;
        other := other || more_other;
        score := score || more_score;
        EXIT WHEN texts IS NULL OR nearest >= own.rows;
        nearest := 8 * nearest;
        IF own.method = 'hnsw' THEN
            PERFORM embedfleet.set_scan(own.method, least(1000, 2 * compared * nearest), 1000000);
        END IF;
    END LOOP;
    PERFORM embedfleet.restore_scan(former);
    SELECT array_agg(p.one), array_agg(p.other), array_agg(p.score) INTO one, other, score
    FROM (
        SELECT DISTINCT ON (least(u.one, u.other), greatest(u.one, u.other))
            least(u.one, u.other) AS one, greatest(u.one, u.other) AS other, u.score
        FROM unnest(one, other, score) AS u (one, other, score)
        ORDER BY least(u.one, u.other), greatest(u.one, u.other)
    ) AS p;
END
$$;

-- name: create_duplicates
-- Pairs of chunks that score at least `threshold`, also those of one text, and the cluster that each pair is
-- part of: its least chunk. With at most 5,000 vectors, or `exact`, each is compared with each.
CREATE OR REPLACE FUNCTION embedfleet.duplicates(
    collection text, threshold double precision DEFAULT 0.95, exact boolean DEFAULT NULL
)
RETURNS TABLE (
    cluster bigint, id bigint, document text, "position" int,
    other_id bigint, other_document text, other_position int, score double precision
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    near record;
    vectors bigint;
BEGIN
    IF threshold IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'duplicates take a threshold such as 0.95';
    END IF;
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    IF exact IS NULL THEN
        EXECUTE format('SELECT count(*) FROM (SELECT FROM embedfleet.%I LIMIT 5001) AS v', own.vectors)
        INTO vectors;
        exact := vectors <= 5000;
        IF NOT exact AND NOT own.indexed THEN
            RAISE object_not_in_prerequisite_state USING
                MESSAGE = format('%s has no index, and is large to compare each chunk with each', collection),
                HINT = format('Run embedfleet index %s, or say exact => true.', collection);
        END IF;
    END IF;
    SELECT n.* INTO near FROM embedfleet.near_texts(collection, threshold, exact) AS n;
    RETURN QUERY EXECUTE format(
        'WITH live AS MATERIALIZED (
            SELECT c.id, c.text_id, d.key AS document, c.position
            FROM embedfleet.%1$I AS c
            JOIN embedfleet.%2$I AS d ON d.id = c.document_id
                AND (d.live_version = c.version OR c.id <@ d.live_kept)
        ), same AS (
            SELECT s.text_id AS one, s.text_id AS other, %3$s AS score
            FROM (
                SELECT v.text_id, v.embedding %4$s v.embedding AS distance
                FROM embedfleet.%5$I AS v
                JOIN (SELECT text_id FROM live GROUP BY text_id HAVING count(*) > 1) AS l USING (text_id)
            ) AS s
        ), pairs AS MATERIALIZED (
            SELECT one, other, score FROM unnest($1, $2, $3) AS p (one, other, score)
            UNION ALL
            SELECT one, other, score FROM same WHERE score >= $4
        ), gathered AS (
            SELECT array_agg(one) AS one, array_agg(other) AS other, array_agg(score) AS score FROM pairs
        ), clustered AS (
            SELECT u.* FROM gathered AS g
            CROSS JOIN LATERAL unnest(g.one, g.other, g.score, embedfleet.clusters(g.one, g.other))
                AS u (one, other, score, cluster)
        ), directed AS (
            SELECT one, other, score, cluster FROM clustered
            UNION ALL
            SELECT other, one, score, cluster FROM clustered WHERE one <> other
        )
        SELECT min(x.id) OVER (PARTITION BY p.cluster) AS cluster, x.id, x.document, x.position,
            y.id, y.document, y.position, p.score
        FROM directed AS p
        JOIN live AS x ON x.text_id = p.one
        JOIN live AS y ON y.text_id = p.other AND x.id < y.id
        ORDER BY cluster, p.score DESC, x.id, y.id',
        '_chunks_' || own.id, '_documents_' || own.id, own.score, own.operator, own.vectors
    )
    USING near.one, near.other, near.score, threshold;
END
$$;
