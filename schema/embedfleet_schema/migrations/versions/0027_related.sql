-- name: create_nearest_documents
-- The k documents nearest to a vector, each by its best chunk: as many chunks are asked for as it takes.
CREATE FUNCTION embedfleet.nearest_documents(
    collection text, query {vector}, k int DEFAULT 10, filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL
)
RETURNS TABLE (
    id bigint, document text, "position" int, content text, metadata jsonb,
    score double precision
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted int := 2 * k;
    given bigint;
    ids bigint[];
    documents text[];
    positions int[];
    contents text[];
    metadatas jsonb[];
    scores double precision[];
BEGIN
    LOOP
        WITH hits AS MATERIALIZED (
            SELECT s.* FROM embedfleet.search(collection, query, wanted, filter, min_score) AS s
        ), best AS (
            SELECT DISTINCT ON (h.document) h.* FROM hits AS h ORDER BY h.document, h.score DESC, h.id
        )
        SELECT (SELECT count(*) FROM hits), array_agg(b.id), array_agg(b.document),
            array_agg(b.position), array_agg(b.content), array_agg(b.metadata), array_agg(b.score)
        INTO given, ids, documents, positions, contents, metadatas, scores
        FROM best AS b;
        EXIT WHEN cardinality(ids) >= k OR given < wanted;
        wanted := 4 * wanted;
    END LOOP;
    RETURN QUERY SELECT r.*
    FROM unnest(ids, documents, positions, contents, metadatas, scores)
        AS r (id, document, position, content, metadata, score)
    ORDER BY r.score DESC, r.id
    LIMIT k;
END
$$;

-- name: create_similar
-- Documents like a document, by the best pair of their chunks: `position` is that of the other document's
-- chunk, `own_position` that of this one's.
CREATE FUNCTION embedfleet.similar(
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
    EXECUTE format(
        'SELECT array_agg(position), array_agg(embedding::%s) FROM embedfleet.%I WHERE document = $1',
        own.vector, collection
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
CREATE FUNCTION embedfleet.neighbours(
    collection text, chunk bigint, before int DEFAULT 1, after int DEFAULT 1
)
RETURNS TABLE (id bigint, document text, "position" int, content text, metadata jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM embedfleet.space_of(collection);
    RETURN QUERY EXECUTE format(
        'SELECT v.id, v.document, v.position, v.content, v.metadata
        FROM (SELECT document, position FROM embedfleet.%1$I WHERE id = $1) AS hit
        JOIN embedfleet.%1$I AS v ON v.document = hit.document
            AND v.position BETWEEN hit.position - $2 AND hit.position + $3
        ORDER BY v.position',
        collection
    )
    USING chunk, before, after;
END
$$;

-- name: create_diverse
-- Hits that are near to the question and not near to each other: maximal marginal relevance (Carbonell and
-- Goldstein, SIGIR 1998) over the nearest `candidates`. A `weight` of 1 is the search itself, one of 0 looks
-- only at how the hits differ. Both are measured by the cosine.
CREATE FUNCTION embedfleet.diverse(
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
            JOIN embedfleet.%1$I AS v USING (id)
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
        collection, own.extension, own.type
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

-- name: create_near_texts
-- Pairs of texts whose vectors score at least `threshold`, each once. `exact` compares each with each; else the
-- HNSW index gives the ten nearest of each, and eight times as many where all of those are near enough.
CREATE FUNCTION embedfleet.near_texts(
    collection text, threshold double precision, exact boolean,
    OUT one bigint[], OUT other bigint[], OUT score double precision[]
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    former text[];
    nearest int := 11;
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
    former := embedfleet.set_scan(40, 20000);
    LOOP
        EXECUTE format(
            'WITH near AS MATERIALIZED (
                SELECT one, other, %s AS score
                FROM (
                    SELECT a.text_id AS one, n.text_id AS other, n.distance
                    FROM embedfleet.%2$I AS a
                    CROSS JOIN LATERAL (
                        SELECT b.text_id, b.embedding %3$s a.embedding AS distance
                        FROM embedfleet.%2$I AS b
                        ORDER BY b.embedding %3$s a.embedding
                        LIMIT %4$s
                    ) AS n
                    WHERE $2 IS NULL OR a.text_id = ANY ($2)
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
            own.score, own.vectors, own.operator, nearest, gathered
        )
        INTO more_one, more_other, more_score, texts USING threshold, texts;
        one := one || more_one;
        other := other || more_other;
        score := score || more_score;
        EXIT WHEN texts IS NULL OR nearest >= own.rows;
        nearest := 8 * nearest;
        PERFORM embedfleet.set_scan(least(1000, 2 * nearest), 1000000);
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

-- name: create_clusters
-- What hangs together: for each edge between two nodes the least node that can be reached from it
-- (union-find with path halving).
CREATE FUNCTION embedfleet.clusters(one bigint[], other bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nodes bigint[];
    starts int[];
    ends int[];
    parent int[];
    a int;
    b int;
    found bigint[];
BEGIN
    SELECT array_agg(n.node ORDER BY n.node) INTO nodes
    FROM (SELECT unnest(one) UNION SELECT unnest(other)) AS n (node);
    SELECT array_agg(x.place ORDER BY e.number), array_agg(y.place ORDER BY e.number)
    INTO starts, ends
    FROM unnest(one, other) WITH ORDINALITY AS e (one, other, number)
    JOIN unnest(nodes) WITH ORDINALITY AS x (node, place) ON x.node = e.one
    JOIN unnest(nodes) WITH ORDINALITY AS y (node, place) ON y.node = e.other;
    parent := ARRAY(SELECT generate_series(1, cardinality(nodes)));
    FOR edge IN 1..coalesce(cardinality(starts), 0) LOOP
        a := starts[edge];
        b := ends[edge];
        WHILE parent[a] <> a LOOP
            parent[a] := parent[parent[a]];
            a := parent[a];
        END LOOP;
        WHILE parent[b] <> b LOOP
            parent[b] := parent[parent[b]];
            b := parent[b];
        END LOOP;
        parent[greatest(a, b)] := least(a, b);
    END LOOP;
    FOR edge IN 1..coalesce(cardinality(starts), 0) LOOP
        a := starts[edge];
        WHILE parent[a] <> a LOOP
            a := parent[a];
        END LOOP;
        found[edge] := nodes[a];
    END LOOP;
    RETURN found;
END
$$;

-- name: create_duplicates
-- Pairs of chunks that score at least `threshold`, also those of one text, and the cluster that each pair is
-- part of: its least chunk. With at most 5,000 vectors, or `exact`, each is compared with each.
CREATE FUNCTION embedfleet.duplicates(
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
                MESSAGE = format('%s has no HNSW index, and is large to compare each chunk with each', collection),
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
