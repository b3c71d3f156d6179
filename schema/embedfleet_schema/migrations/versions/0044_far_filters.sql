-- name: create_looked_at
-- How many rows this transaction came to by the indexes on a table of vectors.
CREATE FUNCTION embedfleet.looked_at(vectors text) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT sum(pg_stat_get_xact_tuples_fetched(i.indexrelid))
    FROM pg_index AS i
    WHERE i.indrelid = to_regclass(format('embedfleet.%I', vectors))
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
-- A scan is as good as it gets for the first `width` rows that it looks at. Then it goes on from candidates that it had left
-- aside, and of rows that lie far away it finds some, and not the nearest. So with a filter that let it look at more rows, a
-- sample says which share of all chunks matches. If a scan for so many hits should have ended four times earlier, what matches
-- lies far from the question, and all of it is compared. Who may read the view alone cannot take the sample.
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
    looked_at bigint;
    pages bigint;
    share double precision;
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
        looked_at := embedfleet.looked_at(own.vectors);
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
        looked_at := embedfleet.looked_at(own.vectors) - looked_at;
        IF filtered AND may_compare AND cardinality(ids) = k AND looked_at > (
            CASE own.method
                WHEN 'ivfflat' THEN width * greatest(own.rows, 0) / own.lists
                ELSE least(width, 1000)
            END
        ) THEN
            pages := pg_relation_size(format('embedfleet.%I', '_chunks_' || own.id))
                / current_setting('block_size')::int;
            EXECUTE format(
                'SELECT avg((%s)::int)
                FROM (
                    SELECT c.metadata, d.key AS document
                    FROM embedfleet.%I AS c
                    JOIN embedfleet.%I AS d ON d.id = c.document_id
                        AND (d.live_version = c.version OR c.id <@ d.live_kept)
                    WHERE c.ctid = ANY (ARRAY(
                        SELECT format(''(%%s,%%s)'', n * $1 / 256, 1 + n %% $2)::tid
                        FROM generate_series(0, 255) AS n
                    ))
                ) AS m',
                condition, '_chunks_' || own.id, '_documents_' || own.id
            )
            INTO share USING pages, greatest(1, floor(own.rows / pages))::int;
            IF looked_at * share > 4 * candidates THEN
                ids := NULL;
            END IF;
        END IF;
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
