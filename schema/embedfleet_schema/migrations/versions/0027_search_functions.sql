-- name: home
-- The schema of pgvector.
SELECT n.nspname
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- name: create_instant
-- The date or time that a text is, as ISO 8601 writes it; in UTC where it names no zone. NULL for all
-- else, and never an error: it is asked of whatever the metadata hold.
CREATE FUNCTION embedfleet.instant(value jsonb) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    written text := value #>> ARRAY[]::text[];
    last_day int;
BEGIN
    IF jsonb_typeof(value) <> 'string' OR written !~ (
        '^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])'
        '([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?)?)?$'
    ) THEN
        RETURN NULL;
    END IF;
    last_day := extract(day FROM make_date(left(written, 4)::int, substr(written, 6, 2)::int, 1)
        + interval '1 month - 1 day');
    IF substr(written, 9, 2)::int > last_day THEN
        RETURN NULL;
    END IF;
    IF length(written) = 10 OR substr(written, 11) !~ '[Z+-]' THEN
        written := written || 'Z';
    END IF;
    RETURN written;
END
$$;

-- name: create_filter_keys
-- The keys that a name leads through: itself, or those of a path such as $.author.name, where any key
-- may stand between double quotes, as in SQL/JSON.
CREATE FUNCTION embedfleet.filter_keys(name text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    step text := '\.([^."]+|"([^"\\]|\\.)*")';
BEGIN
    IF name NOT LIKE '$.%' THEN
        RETURN ARRAY[name];
    END IF;
    IF name !~ format('^\$(%s)+$', step) THEN
        RAISE invalid_parameter_value USING MESSAGE = format(
            '%s is no path; write $.author.name, and a key with other characters as $."first name"',
            to_jsonb(name)
        );
    END IF;
    RETURN ARRAY(
        SELECT CASE WHEN m.found[1] LIKE '"%' THEN m.found[1]::jsonb #>> ARRAY[]::text[]
            ELSE m.found[1] END
        FROM regexp_matches(substr(name, 2), step, 'g') WITH ORDINALITY AS m (found, number)
        ORDER BY m.number
    );
END
$$;

-- name: create_filter_comparison
-- A number is compared with numbers, and a date or time with those. `extracted` is the SQL of what is
-- compared.
CREATE FUNCTION embedfleet.filter_comparison(extracted text, operator text, value jsonb)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'number' THEN
        RETURN format(
            'jsonb_typeof(%1$s) = ''number'' AND %1$s %2$s %3$L::jsonb', extracted, operator, value
        );
    END IF;
    IF embedfleet.instant(value) IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN format(
        'embedfleet.instant(%s) %s %L::timestamptz', extracted, operator,
        to_char(embedfleet.instant(value) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    );
END
$$;

-- name: create_filter_plain
-- What a value finds that stands alone: itself, and where it is no text also the text that it is
-- written as, because a cell of CSV is text. A text is found in either Unicode form.
CREATE FUNCTION embedfleet.filter_plain(value jsonb) RETURNS jsonb[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    written text := value #>> ARRAY[]::text[];
BEGIN
    IF jsonb_typeof(value) <> 'string' THEN
        RETURN ARRAY[value, to_jsonb(value::text)];
    END IF;
    RETURN ARRAY(
        SELECT DISTINCT to_jsonb(form)
        FROM unnest(ARRAY[written, normalize(written, NFC), normalize(written, NFD)]) AS form
    );
END
$$;

-- name: create_filter_test
-- One operator of the filter language, as a condition on the columns `metadata` and `document`. Equality
-- is containment, which an index on the metadata serves. A value that stands alone comes as `plain`.
CREATE FUNCTION embedfleet.filter_test(name text, operator text, value jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_document boolean := name = 'document';
    kinds text[] := ARRAY['string'];
    forms jsonb[];
    keys text[];
    extracted text := 'document';
    condition text;
    wanted text;
BEGIN
    IF NOT of_document THEN
        kinds := ARRAY['string', 'number', 'boolean', 'null'];
        keys := embedfleet.filter_keys(name);
        SELECT 'metadata' || string_agg(format(' -> %L', key), '') INTO extracted
        FROM unnest(keys) AS key;
    END IF;
    CASE
    WHEN operator = 'plain' THEN
        forms := embedfleet.filter_plain(value);
        IF of_document AND jsonb_typeof(value) <> 'string' THEN
            wanted := 'a text';
        END IF;
    WHEN operator = 'contains' AND NOT of_document THEN
        forms := ARRAY[value];
    WHEN operator = 'eq' THEN
        forms := ARRAY[value];
        IF jsonb_typeof(value) <> ALL (kinds) THEN
            wanted := CASE WHEN of_document THEN 'a text'
                ELSE 'a text, a number, true, false or null; lists and objects: contains' END;
        END IF;
    WHEN operator = 'in' THEN
        IF jsonb_typeof(value) = 'array' THEN
            forms := ARRAY(SELECT element FROM jsonb_array_elements(value) AS element);
        END IF;
        IF coalesce(cardinality(forms), 0) = 0
            OR EXISTS (SELECT FROM unnest(forms) AS f WHERE jsonb_typeof(f) <> ALL (kinds))
        THEN
            wanted := CASE WHEN of_document THEN 'a list of texts'
                ELSE 'a list of texts, numbers, true, false or null' END;
        END IF;
    WHEN operator IN ('lt', 'lte', 'gt', 'gte') AND NOT of_document THEN
        condition := embedfleet.filter_comparison(
            extracted,
            CASE operator WHEN 'lt' THEN '<' WHEN 'lte' THEN '<=' WHEN 'gt' THEN '>' ELSE '>=' END,
            value
        );
        IF condition IS NULL THEN
            wanted := 'a number, or a date such as "2024-01-31" or "2024-01-31T10:00:00Z"';
        END IF;
    WHEN operator = 'exists' AND NOT of_document THEN
        condition := format(
            '%s %s', extracted, CASE value WHEN 'true' THEN 'IS NOT NULL' ELSE 'IS NULL' END
        );
        IF jsonb_typeof(value) <> 'boolean' THEN
            wanted := 'true or false';
        END IF;
    WHEN operator = 'prefix' THEN
        IF jsonb_typeof(value) <> 'string' THEN
            wanted := 'a text';
        ELSE
            -- What is no text has no prefix.
            SELECT string_agg(
                format(
                    CASE WHEN of_document THEN '%1$s ^@ %3$L'
                    ELSE 'jsonb_typeof(%1$s) = ''string'' AND %2$s ^@ %3$L' END,
                    extracted, format('(%s #>> ARRAY[]::text[])', extracted),
                    form #>> ARRAY[]::text[]
                ), ' OR '
            ) INTO condition
            FROM unnest(embedfleet.filter_plain(value)) AS form;
        END IF;
    ELSE
        RAISE invalid_parameter_value USING MESSAGE = format(
            '%s has no operator %s; there are %s', to_jsonb(name), to_jsonb(operator),
            CASE WHEN of_document THEN 'eq, in and prefix'
            ELSE 'eq, in, lt, lte, gt, gte, exists, prefix and contains' END
        );
    END CASE;
    IF wanted IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = format(
            '%s of %s takes %s, not %s',
            CASE operator WHEN 'plain' THEN 'equality' ELSE operator END, to_jsonb(name), wanted,
            left(value::text, 60)
        );
    END IF;
    IF of_document AND forms IS NOT NULL THEN
        SELECT format('document IN (%s)', string_agg(quote_literal(form #>> ARRAY[]::text[]), ', '))
        INTO condition
        FROM unnest(forms) AS form;
    ELSIF forms IS NOT NULL THEN
        FOR depth IN REVERSE cardinality(keys)..1 LOOP
            forms := ARRAY(SELECT jsonb_build_object(keys[depth], f) FROM unnest(forms) AS f);
        END LOOP;
        SELECT string_agg(format('metadata @> %L::jsonb', form), ' OR ') INTO condition
        FROM unnest(forms) AS form;
    END IF;
    RETURN format('(%s)', condition);
END
$$;

-- name: create_filter_condition
-- A filter as a condition on the columns `metadata` and `document`: every name in it, and every value,
-- is a literal there. The language is described in docs/sql-cookbook.md.
CREATE FUNCTION embedfleet.filter_condition(filter jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := ARRAY[]::text[];
    part record;
BEGIN
    IF jsonb_typeof(filter) IS DISTINCT FROM 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = format(
            'a filter is an object such as {"lang": "en"}, not %s',
            coalesce(left(filter::text, 60), 'NULL')
        );
    END IF;
    FOR part IN SELECT f.key, f.value, jsonb_typeof(f.value) AS kind FROM jsonb_each(filter) AS f LOOP
        IF part.key IN ('and', 'or') THEN
            IF part.kind <> 'array' OR part.value = '[]' THEN
                RAISE invalid_parameter_value USING MESSAGE = format(
                    '%s takes a list of filters, not %s', part.key, left(part.value::text, 60)
                );
            END IF;
            parts := parts || (
                SELECT format(
                    '(%s)', string_agg(embedfleet.filter_condition(f), format(' %s ', upper(part.key)))
                )
                FROM jsonb_array_elements(part.value) AS f
            );
        ELSIF part.key = 'not' THEN
            parts := parts || format('(%s) IS NOT TRUE', embedfleet.filter_condition(part.value));
        ELSIF part.kind = 'object' AND part.value <> '{}' THEN
            parts := parts || ARRAY(
                SELECT embedfleet.filter_test(part.key, o.key, o.value)
                FROM jsonb_each(part.value) AS o
            );
        ELSE
            parts := parts || embedfleet.filter_test(part.key, 'plain', part.value);
        END IF;
    END LOOP;
    RETURN coalesce(nullif(array_to_string(parts, ' AND '), ''), 'true');
END
$$;

-- name: create_expected_rows
-- How many rows the planner expects of a query of ours, where it finds them by an index on the metadata
-- or on the keys; NULL where it does not. On its own, because what is not volatile may not EXPLAIN.
CREATE OR REPLACE FUNCTION embedfleet.expected_rows(query text) RETURNS double precision
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN CASE WHEN plan::text ~ '"(Index|Recheck) Cond": "[^"]*\y(metadata|key)\y'
        THEN plan -> 0 -> 'Plan' ->> 'Plan Rows' END;
END
$$;

-- name: create_compared
-- The k nearest of the live chunks that a filter keeps, each compared, in their order: an exact search.
-- Unless `always`, it is NULL where a scan of the HNSW index is the better way: where no index finds
-- the chunks, or too many match. A scan for k rows of a share s of n looks at k / s of them and
-- costs some seven times as much for each: both ways cost the same at sqrt(7 k n) rows. Bitmaps
-- of many rows take time too, so the planner is asked first, whose guess may be four times too high.
--
-- It runs with its owner's rights, which no policy slows, and who may read all views may call it.
-- Processes from before filters had a language ask with a list of conditions that all hold, each a
-- list of objects of which one is contained; the release after next needs that no more.
CREATE OR REPLACE FUNCTION embedfleet.compared(
    collection_id bigint, wanted jsonb, query text, k int, always boolean
)
RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scans text := current_setting('enable_seqscan');
    own record;
    condition text;
    matching text;
    most bigint;
    nearest bigint[];
BEGIN
    SELECT c.space_id, s.storage, e.nspname AS extension,
        CASE s.metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' ELSE '<#>' END AS operator,
        h.reltuples
    INTO own
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    JOIN pg_class AS h ON h.oid = to_regclass(format('embedfleet.%I', '_chunks_' || c.id))
    JOIN pg_extension AS v ON v.extname = 'vector'
    JOIN pg_namespace AS e ON e.oid = v.extnamespace
    WHERE c.id = compared.collection_id;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('collection %s was dropped', collection_id);
    END IF;
    IF jsonb_typeof(wanted) = 'array' THEN
        SELECT coalesce(string_agg('(' || a.either || ')', ' AND '), 'true') INTO condition
        FROM jsonb_array_elements(wanted) AS w (conditions)
        CROSS JOIN LATERAL (
            SELECT string_agg(format('metadata @> %L::jsonb', o.object), ' OR ') AS either
            FROM jsonb_array_elements(w.conditions) AS o (object)
        ) AS a;
    ELSE
        condition := embedfleet.filter_condition(wanted);
    END IF;
    matching := format(
        'SELECT m.id, m.text_id
        FROM (
            SELECT c.id, c.text_id, c.metadata, d.key AS document
            FROM embedfleet.%I AS c
            JOIN embedfleet.%I AS d ON d.id = c.document_id
                AND (d.live_version = c.version OR c.id <@ d.live_kept)
        ) AS m
        WHERE %s',
        '_chunks_' || collection_id, '_documents_' || collection_id, condition
    );
    IF NOT always THEN
        most := least(10000, greatest(1000, sqrt(7.0 * k * greatest(own.reltuples, 0))));
        PERFORM set_config('enable_seqscan', 'off', true);
        IF NOT coalesce(embedfleet.expected_rows(matching) <= 4 * most, false) THEN
            PERFORM set_config('enable_seqscan', scans, true);
            RETURN NULL;
        END IF;
    END IF;
    EXECUTE format(
        'WITH matching AS %s (%s LIMIT %s)
        SELECT CASE WHEN %L OR (SELECT count(*) FROM matching) <= %s THEN ARRAY(
            SELECT m.id
            FROM matching AS m
            JOIN embedfleet.%I AS v ON v.text_id = m.text_id
            ORDER BY (v.embedding OPERATOR(%I.%s) %L::%I.%I) + 0, m.id
            LIMIT %s
        ) END',
        CASE WHEN always THEN 'NOT MATERIALIZED' ELSE 'MATERIALIZED' END, matching,
        coalesce((most + 1)::text, 'ALL'), always, coalesce(most, 0),
        format('_vectors_%s_%s', collection_id, own.space_id),
        own.extension, own.operator, query, own.extension, own.storage, k
    )
    INTO nearest;
    PERFORM set_config('enable_seqscan', scans, true);
    RETURN nearest;
END
$$;

-- name: create_space_of
-- What a search needs to know of a collection. Whoever reads one view may not read the table of all
-- collections; what is told here is in PostgreSQL's catalog, too, which everybody can read.
CREATE FUNCTION embedfleet.space_of(
    collection text, OUT id bigint, OUT vectors text, OUT rows double precision,
    OUT extension text, OUT type text, OUT vector text, OUT operator text, OUT score text,
    OUT indexed boolean
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT c.id, v.relname, v.reltuples, quote_ident(e.nspname),
        format('%I.%I', e.nspname, s.storage), format('%I.vector', e.nspname),
        format(
            'OPERATOR(%I.%s)', e.nspname,
            CASE s.metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' ELSE '<#>' END
        ),
        CASE s.metric WHEN 'cosine' THEN '1 - distance' ELSE '- distance' END,
        EXISTS (
            SELECT
            FROM pg_index AS i
            JOIN pg_class AS x ON x.oid = i.indexrelid
            JOIN pg_am AS m ON m.oid = x.relam AND m.amname = 'hnsw'
            WHERE i.indrelid = v.oid AND i.indisvalid
        )
    INTO id, vectors, rows, extension, type, vector, operator, score, indexed
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    JOIN pg_class AS v
        ON v.oid = to_regclass(format('embedfleet.%I', format('_vectors_%s_%s', c.id, c.space_id)))
    JOIN pg_extension AS x ON x.extname = 'vector'
    JOIN pg_namespace AS e ON e.oid = x.extnamespace
    WHERE c.name = space_of.collection;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('there is no collection %L', collection);
    END IF;
END
$$;

-- name: create_set_scan
-- How an HNSW index is scanned, until `restore_scan` is given what this returns. A scan goes on until
-- enough is found, or until it has come as far as it may: so many rows. Its other limit, of memory, is
-- put beyond that. Not as clauses of a function: to create one with them, as a restored dump does,
-- takes a superuser or a session that has used pgvector.
CREATE FUNCTION embedfleet.set_scan(ef_search int, tuples int) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former text[] := ARRAY[
        current_setting('hnsw.iterative_scan', true), current_setting('hnsw.ef_search', true),
        current_setting('hnsw.max_scan_tuples', true),
        current_setting('hnsw.scan_mem_multiplier', true)
    ];
BEGIN
    PERFORM set_config('hnsw.iterative_scan', 'relaxed_order', true),
        set_config('hnsw.ef_search', ef_search::text, true),
        set_config('hnsw.max_scan_tuples', tuples::text, true),
        set_config('hnsw.scan_mem_multiplier', '1000', true);
    RETURN former;
END
$$;

-- name: create_restore_scan
CREATE FUNCTION embedfleet.restore_scan(former text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('hnsw.iterative_scan', former[1], true),
        set_config('hnsw.ef_search', former[2], true),
        set_config('hnsw.max_scan_tuples', former[3], true),
        set_config('hnsw.scan_mem_multiplier', former[4], true);
END
$$;

-- name: create_search
-- The k chunks nearest to a vector, best first; fewer only where fewer match or score `min_score`. It
-- runs with the rights of who calls it, for whom the view and its policies hold.
--
-- Without a filter the HNSW index is scanned. With one, `compared` is asked whether few enough chunks
-- match to compare each. Where the scan comes back short, all that match are compared: so it is
-- complete. Who may not call `compared` gets the same rows by the view, less quickly.
--
-- A scan keeps twice as many candidates as are asked for, which finds 95 of 100 neighbours, and with a
-- filter ten times as many: it keeps few of them. Who sets hnsw.ef_search higher gets more. With a filter it goes as far as an eighth of the
-- table: beyond, it is quicker to compare all that match, and so it is for more than 500 hits.
--
-- The joins of the view are in the order in which they are best done.
CREATE FUNCTION embedfleet.search(
    collection text, query {vector}, k int DEFAULT 10, filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL
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
    IF may_compare AND (filtered OR NOT own.indexed) THEN
        nearest := embedfleet.compared(
            own.id, coalesce(filter, '{}'), query::text, k, NOT own.indexed OR k > 500
        );
    END IF;
    IF nearest IS NULL THEN
        former := embedfleet.set_scan(
            least(greatest(
                CASE WHEN filtered THEN greatest(400, 10 * k) ELSE greatest(100, 2 * k) END,
                nullif(current_setting('hnsw.ef_search', true), '')::int
            ), 1000),
            CASE WHEN filtered THEN least(1000000, greatest(1, own.rows / 8)) ELSE 20000 END::int
        );
        EXECUTE format(
            gathered, own.score, format(
                'SELECT * FROM (%s WHERE %s ORDER BY embedding %s $1::%s LIMIT %s) AS n'
                ' ORDER BY distance + 0, id',
                source, condition, own.operator, own.type, k
            )
        )
        INTO ids, documents, positions, contents, metadatas, scores USING query;
        PERFORM embedfleet.restore_scan(former);
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
