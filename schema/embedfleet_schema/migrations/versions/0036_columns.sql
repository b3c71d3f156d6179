-- name: create_columns
-- Fields of the metadata that the view of a collection shows as columns, in the order of `id`. `field` is a name
-- in the metadata or a path to one.
CREATE TABLE embedfleet.collection_column (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_collection_column PRIMARY KEY,
    collection_id bigint NOT NULL CONSTRAINT fk_collection_column_collection_id_collection
        REFERENCES embedfleet.collection (id) ON DELETE CASCADE,
    name text NOT NULL,
    field text NOT NULL,
    type text NOT NULL CONSTRAINT ck_collection_column_type
        CHECK (type IN ('int', 'float', 'text', 'bool', 'date', 'timestamp')),
    CONSTRAINT uq_collection_column_collection_id_name UNIQUE (collection_id, name)
);

-- name: create_as_int
-- A whole number that bigint holds; NULL for all else, and never an error, here and in the next ones: a
-- view that shows what one document says must not fail by it.
CREATE FUNCTION embedfleet.as_int(value jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(value) = 'number'
            AND value BETWEEN '-9223372036854775808'::jsonb AND '9223372036854775807'::jsonb
        THEN CASE WHEN value::numeric = trunc(value::numeric) THEN value::bigint END
    END
$$;

-- name: create_as_float
-- A number; NULL beyond what float8 holds, and 0 where it is nearer to 0 than that can tell.
CREATE FUNCTION embedfleet.as_float(value jsonb) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN jsonb_typeof(value) <> 'number' THEN NULL
        WHEN value BETWEEN '-1e-300'::jsonb AND '1e-300'::jsonb THEN 0
        WHEN value BETWEEN '-1.79e308'::jsonb AND '1.79e308'::jsonb THEN value::double precision
    END
$$;

-- name: create_as_text
CREATE FUNCTION embedfleet.as_text(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(value) = 'string' THEN value #>> ARRAY[]::text[] END
$$;

-- name: create_as_bool
CREATE FUNCTION embedfleet.as_bool(value jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(value) = 'boolean' THEN value::boolean END
$$;

-- name: create_as_date
-- The day of a date or time, in UTC.
CREATE FUNCTION embedfleet.as_date(value jsonb) RETURNS date
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (embedfleet.instant(value) AT TIME ZONE 'UTC')::date
$$;

-- name: create_column_expression
-- A declared column as SQL over `c.metadata`.
CREATE FUNCTION embedfleet.column_expression(field text, type text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(
        'embedfleet.%I(c.metadata%s)',
        CASE type WHEN 'timestamp' THEN 'instant' ELSE 'as_' || type END,
        (SELECT string_agg(format(' -> %L', key), '') FROM unnest(embedfleet.filter_keys(field)) AS key)
    )
$$;

-- name: create_view_of
-- What the view of a collection shows: the live chunks that have a vector, and behind its own columns those that
-- were declared.
CREATE OR REPLACE FUNCTION embedfleet.view_of(collection_id bigint, space_id bigint) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format(
        'SELECT c.id, d.key AS document, c.position, t.content, c.metadata, v.embedding, t.context%s
        FROM embedfleet.%I AS v
        JOIN embedfleet.%I AS c ON c.text_id = v.text_id
        JOIN embedfleet.%I AS d ON d.id = c.document_id
            AND (d.live_version = c.version OR c.id <@ d.live_kept)
        JOIN embedfleet.%I AS t ON t.id = c.text_id',
        (
            SELECT string_agg(
                format(', %s AS %I', embedfleet.column_expression(o.field, o.type), o.name), '' ORDER BY o.id
            )
            FROM embedfleet.collection_column AS o
            WHERE o.collection_id = view_of.collection_id
        ),
        format('_vectors_%s_%s', collection_id, space_id), '_chunks_' || collection_id,
        '_documents_' || collection_id, '_texts_' || collection_id
    );
END
$$;

-- name: create_add_column
-- One more column of the view, after the others. It runs with its owner's rights, as create_relations does: who
-- creates a collection may say what its columns are.
CREATE FUNCTION embedfleet.add_column(collection_id bigint, name text, field text, type text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
BEGIN
    INSERT INTO embedfleet.collection_column (collection_id, name, field, type)
    VALUES (add_column.collection_id, add_column.name, add_column.field, add_column.type);
    SELECT c.name, c.space_id INTO STRICT own
    FROM embedfleet.collection AS c
    WHERE c.id = add_column.collection_id;
    EXECUTE format(
        'CREATE OR REPLACE VIEW embedfleet.%I WITH (security_invoker = on) AS %s',
        own.name, embedfleet.view_of(add_column.collection_id, own.space_id)
    );
END
$$;

-- name: create_remove_column
-- A view loses no column but with itself: it is made anew, and opened to whom it was open. What others built on
-- it is in the way. For the owner.
CREATE FUNCTION embedfleet.remove_column(collection_id bigint, name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    rights text[];
    each text;
BEGIN
    DELETE FROM embedfleet.collection_column AS o
    WHERE o.collection_id = remove_column.collection_id AND o.name = remove_column.name;
    SELECT c.name, c.space_id, v.relacl, v.relowner INTO STRICT own
    FROM embedfleet.collection AS c
    JOIN pg_class AS v ON v.oid = to_regclass(format('embedfleet.%I', c.name))
    WHERE c.id = remove_column.collection_id;
    SELECT array_agg(
        format(
            'GRANT %s ON embedfleet.%I TO %s%s', a.privilege_type, own.name,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END
        )
    )
    INTO rights
    FROM aclexplode(own.relacl) AS a
    WHERE a.grantee <> own.relowner;
    EXECUTE format('DROP VIEW embedfleet.%I', own.name);
    EXECUTE format(
        'CREATE VIEW embedfleet.%I WITH (security_invoker = on) AS %s',
        own.name, embedfleet.view_of(remove_column.collection_id, own.space_id)
    );
    FOREACH each IN ARRAY coalesce(rights, ARRAY[]::text[]) LOOP
        EXECUTE each;
    END LOOP;
END
$$;

-- name: create_index_column
-- What serves filters with ranges on a column of a collection without rows: the index of `embedfleet index NAME --field`,
-- by its name. It runs with its owner's rights, as create_filter_index does, and refuses a table with rows, too.
CREATE FUNCTION embedfleet.index_column(collection_id bigint, field text, kind text, index_name text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chunks text;
    extracted text;
    filled boolean;
BEGIN
    SELECT '_chunks_' || c.id INTO STRICT chunks
    FROM embedfleet.collection AS c
    WHERE c.id = index_column.collection_id;
    IF to_regclass(format('embedfleet.%I', index_name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM embedfleet.%I)', chunks) INTO filled;
    IF filled THEN
        RAISE EXCEPTION '% has rows', chunks USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT 'metadata' || string_agg(format(' -> %L', key), '') INTO extracted
    FROM unnest(embedfleet.filter_keys(field)) AS key;
    IF kind = 'date' THEN
        EXECUTE format(
            'CREATE INDEX %I ON embedfleet.%I (embedfleet.instant(%s))', index_name, chunks, extracted
        );
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE STATISTICS embedfleet.%I ON (jsonb_typeof(%2$s)), (%2$s) FROM embedfleet.%3$I',
        index_name, extracted, chunks
    );
    EXECUTE format(
        'CREATE INDEX %I ON embedfleet.%I ((%s)) WHERE jsonb_typeof(%3$s) = ''number''',
        index_name, chunks, extracted
    );
END
$$;

-- name: create_near_texts
-- Pairs of texts whose vectors score at least `threshold`, each once. `exact` compares each with each; else the
-- index gives the ten nearest of each, and eight times as many where all of those are near enough. Of an index of
-- signs ten times as many are compared. It is scanned as far as a search of the collection does: with fewer candidates, one pair
-- of a hundred was overlooked.
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
        own.method, CASE own.method WHEN 'ivfflat' THEN own.probes ELSE greatest(own.ef_search, compared * nearest) END,
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
            PERFORM embedfleet.set_scan(own.method, least(1000, greatest(own.ef_search, 2 * compared * nearest)), 1000000);
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

-- name: close_to_others
REVOKE ALL ON FUNCTION
    embedfleet.add_column(bigint, text, text, text), embedfleet.remove_column(bigint, text),
    embedfleet.index_column(bigint, text, text, text)
FROM PUBLIC;
