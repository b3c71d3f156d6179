-- name: role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s) AS found;

-- name: readable
-- Those of some relations of ours that a role can read already, by itself or as another that it may
-- become.
SELECT DISTINCT c.relname
FROM pg_class AS c
LEFT JOIN LATERAL aclexplode(c.relacl) AS a ON a.privilege_type = 'SELECT'
WHERE c.relnamespace = 'embedfleet'::regnamespace AND c.relname = ANY (%(relations)s)
    AND (
        pg_has_role(%(role)s, c.relowner, 'MEMBER')
        OR pg_has_role(%(role)s, 'pg_read_all_data', 'MEMBER')
        OR a.grantee = 0
        OR a.grantee <> 0 AND pg_has_role(%(role)s, a.grantee, 'MEMBER')
        OR has_any_column_privilege(%(role)s, c.oid, 'SELECT')
    )
ORDER BY c.relname;

-- name: create_search
-- A search with its owner's rights. Who calls it gets the live chunks of this collection and nothing
-- else: no condition or function of theirs comes below it, and no plan shows what it passed by. Where
-- an index gives fewer rows than were asked for, the rows are looked through instead.
CREATE OR REPLACE FUNCTION embedfleet.{function}(
    query {type}, k int DEFAULT 10, filter jsonb DEFAULT NULL
)
RETURNS TABLE (
    id bigint, document text, "position" int, content text, metadata jsonb,
    distance double precision
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET hnsw.iterative_scan = relaxed_order
SET hnsw.ef_search = {ef_search}
SET hnsw.max_scan_tuples = {max_scan_tuples}
SET hnsw.scan_mem_multiplier = {scan_mem_multiplier}
AS $function$
#variable_conflict use_column
DECLARE
    wanted jsonb := CASE WHEN filter IS NULL THEN '[]'
        ELSE jsonb_build_array(jsonb_build_array(filter)) END;
    ids bigint[];
BEGIN
    PERFORM set_config(
        'hnsw.ef_search', least(greatest(k, {ef_search}), {ef_search_limit})::text, true
    );
    IF filter IS NOT NULL THEN
        ids := embedfleet.compared({collection_id}, wanted, query::text, k, false);
    END IF;
    IF ids IS NULL THEN
        SELECT array_agg(n.id) INTO ids
        FROM (
            SELECT v.id
            FROM embedfleet.{view} AS v
            WHERE filter IS NULL OR v.metadata @> filter
            ORDER BY v.embedding {operator} query
            LIMIT k
        ) AS n;
        IF coalesce(cardinality(ids), 0) < k THEN
            ids := embedfleet.compared({collection_id}, wanted, query::text, k, true);
        END IF;
    END IF;
    RETURN QUERY
    SELECT v.id, v.document, v.position, v.content, v.metadata,
        v.embedding {operator} query AS distance
    FROM embedfleet.{view} AS v
    WHERE v.id = ANY (ids)
    ORDER BY distance, v.id;
END
$function$;

-- name: close_search
REVOKE ALL ON FUNCTION embedfleet.{function}({type}, int, jsonb) FROM PUBLIC;

-- name: open_schema
GRANT USAGE ON SCHEMA embedfleet TO {role};

-- name: grant_search
GRANT EXECUTE ON FUNCTION embedfleet.{function}({type}, int, jsonb) TO {role};

-- name: revoke_search
REVOKE ALL ON FUNCTION embedfleet.{function}({type}, int, jsonb) FROM {role};

-- name: grant_view
SELECT embedfleet.grant_view(%(collection_id)s, %(space_id)s, %(view)s, %(role)s);

-- name: revoke_view
REVOKE SELECT ON embedfleet.{view}, embedfleet.{documents}, embedfleet.{chunks}, embedfleet.{texts},
    embedfleet.{vectors}
FROM {role};

-- name: search_exists
SELECT to_regprocedure(%(signature)s) IS NOT NULL AS found;

-- name: drop_search
DROP FUNCTION IF EXISTS embedfleet.{function}({type}, int, jsonb) {behaviour};
