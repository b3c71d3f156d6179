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
-- The search with its owner's rights. Who calls it gets the live chunks of this collection and nothing
-- else: no condition or function of theirs comes below it, and no plan shows what it passed by.
CREATE OR REPLACE FUNCTION embedfleet.{function}(
    query {type}, k int DEFAULT 10, filter jsonb DEFAULT NULL
)
RETURNS TABLE (
    id bigint, document text, "position" int, content text, metadata jsonb,
    distance double precision
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN QUERY
    SELECT s.id, s.document, s.position, s.content, s.metadata, {distance}
    FROM embedfleet.search({collection}, query::{vector}, k, filter) AS s;
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
