-- name: create_text_language
-- The language of a collection's full text: that of the index on the words of its texts, whoever built it.
CREATE FUNCTION embedfleet.text_language(collection text) RETURNS regconfig
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT substring(d.expression FROM $e$to_tsvector\('([^']+)'::regconfig, content\)$e$)
        FROM embedfleet.space_of(collection) AS s
        JOIN pg_index AS i ON i.indrelid = to_regclass(format('embedfleet.%I', '_texts_' || s.id))
        CROSS JOIN LATERAL pg_get_expr(i.indexprs, i.indrelid) AS d (expression)
        WHERE i.indisvalid AND i.indpred IS NULL AND d.expression LIKE 'to_tsvector(%'
        ORDER BY i.indexrelid
        LIMIT 1
    )::regconfig;
END
$$;

-- name: create_matched
-- The k chunks that any words of a question describe best, best first, by BM25 (k1 = 1.2, b = 0.75; Robertson
-- and Zaragoza, 2009): rare words count more, and long texts less. PostgreSQL's ts_rank knows neither. To
-- read the words of a text takes longer than all else, so that is done for the most promising texts only: three
-- times as many as are asked for, by the rarity of the words that they have. Which have a word is told by
-- the index; without one the words of every text are read.
CREATE FUNCTION embedfleet.matched(
    collection text, question text, language regconfig, filter jsonb, k int
)
RETURNS TABLE (id bigint, score double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    words text[] := tsvector_to_array(to_tsvector(language, question));
    postings text := 'SELECT w.word, t.id
        FROM unnest($1, $2) AS w (word, query)
        CROSS JOIN LATERAL (
            SELECT id FROM embedfleet.%2$I WHERE to_tsvector(%1$L::regconfig, content) @@ w.query::tsquery
        ) AS t';
BEGIN
    SELECT s.* INTO own FROM embedfleet.space_of(collection) AS s;
    IF embedfleet.text_language(collection) IS DISTINCT FROM language THEN
        postings := 'SELECT w.lexeme AS word, t.id
            FROM embedfleet.%2$I AS t
            CROSS JOIN LATERAL unnest(to_tsvector(%1$L::regconfig, t.content)) AS w
            WHERE w.lexeme = ANY ($1)';
    END IF;
    RETURN QUERY EXECUTE format(
        'WITH live AS (
            SELECT c.id, c.text_id
            FROM (
                SELECT c.id, c.text_id, c.metadata, d.key AS document
                FROM embedfleet.%3$I AS c
                JOIN embedfleet.%4$I AS d ON d.id = c.document_id
                    AND (d.live_version = c.version OR c.id <@ d.live_kept)
            ) AS c
            WHERE %5$s
        ), postings AS MATERIALIZED (
            SELECT * FROM (' || postings || ') AS p
            WHERE %6$L OR id IN (SELECT text_id FROM live)
        ), rarity AS MATERIALIZED (
            SELECT word, ln(1 + (greatest($3 - count(*), 0) + 0.5) / (count(*) + 0.5)) AS weight
            FROM postings
            GROUP BY word
        ), promising AS MATERIALIZED (
            SELECT p.id
            FROM postings AS p
            JOIN rarity AS r USING (word)
            GROUP BY p.id
            ORDER BY sum(r.weight) DESC, p.id
            LIMIT 3 * $4
        ), read AS MATERIALIZED (
            SELECT id, to_tsvector(%1$L::regconfig, content) AS words
            FROM embedfleet.%2$I
            WHERE id IN (SELECT id FROM promising)
        ), scored AS MATERIALIZED (
            SELECT f.id, sum(r.weight * f.times * 2.2 / (f.times + 1.2 * (0.25 + 0.75 * f.length))) AS score
            FROM (
                SELECT m.id, w.lexeme AS word, cardinality(w.positions) AS times, m.length
                FROM (SELECT id, words, length(words) / avg(length(words)) OVER () AS length FROM read) AS m
                CROSS JOIN LATERAL unnest(m.words) AS w
                WHERE w.lexeme = ANY ($1)
            ) AS f
            JOIN rarity AS r USING (word)
            GROUP BY f.id
        )
        SELECT l.id, s.score::double precision
        FROM scored AS s
        JOIN live AS l ON l.text_id = s.id
        ORDER BY s.score DESC, l.id
        LIMIT $4',
        language, '_texts_' || own.id, '_chunks_' || own.id, '_documents_' || own.id,
        CASE WHEN filter IS NULL THEN 'true' ELSE embedfleet.filter_condition(filter) END,
        filter IS NULL
    )
    USING words, ARRAY(
        -- As a literal of a tsquery.
        SELECT format('''%s''', replace(replace(word, '\', '\\'), '''', ''''''))
        FROM unnest(words) AS word
    ), own.rows::double precision, k;
END
$$;

-- name: create_matched_by_owner
-- The same with its owner's rights, which no policy slows, for who may read all views. A reader of one view
-- would not be helped by an index on the words: PostgreSQL puts the policies first.
CREATE FUNCTION embedfleet.matched_by_owner(
    collection text, question text, language regconfig, filter jsonb, k int
)
RETURNS TABLE (id bigint, score double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT m.* FROM embedfleet.matched(collection, question, language, filter, k) AS m;
END
$$;

-- name: create_hybrid_search
-- Words and meaning: two lists of `candidates` chunks, fused by reciprocal rank (Cormack, Clarke and
-- Buettcher, SIGIR 2009), so that their scores need not be comparable.
CREATE FUNCTION embedfleet.hybrid_search(
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
BEGIN
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
        FROM embedfleet.%I AS v
        JOIN fused AS f USING (id)
        ORDER BY f.score DESC, v.id',
        by_words, collection
    )
    USING collection, question, coalesce(language, embedfleet.text_language(collection), 'simple'), filter,
        candidates, query, text_weight, vector_weight, constant, k;
END
$$;

-- name: close_to_others
REVOKE ALL ON FUNCTION embedfleet.matched_by_owner(text, text, regconfig, jsonb, int) FROM PUBLIC;
