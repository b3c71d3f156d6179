-- name: set_aside
-- Names that change places are free for a moment of this transaction, which nobody else sees.
UPDATE embedfleet.collection SET name = 'x' || md5(name) WHERE id = ANY (%(ids)s::bigint[]);

-- name: set_name
UPDATE embedfleet.collection SET name = %(name)s WHERE id = %(collection_id)s;

-- name: columns
-- Those of the metadata that the views of two collections show.
SELECT ARRAY(
    SELECT (name, type)::text
    FROM embedfleet.collection_column
    WHERE collection_id = c.id
    ORDER BY id
) AS columns
FROM unnest(%(ids)s::bigint[]) AS c (id);

-- name: show_as
SELECT embedfleet.show_as(%(collection_id)s, %(space_id)s, %(view)s);

-- name: rename_view
ALTER VIEW embedfleet.{view} RENAME TO {name};

-- name: drop_view
DROP VIEW embedfleet.{view} RESTRICT;

-- name: dependents
-- What reads some views of ours, or takes their rows: it would be in the way of a view whose columns
-- change.
SELECT DISTINCT CASE
        WHEN v.oid IS NOT NULL
            THEN format('%%s %%s', CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, v.oid::regclass)
        ELSE pg_describe_object(d.classid, d.objid, d.objsubid)
    END AS what
FROM pg_class AS c
JOIN pg_depend AS d
    ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
    OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (c.reltype, (
        SELECT typarray FROM pg_type WHERE oid = c.reltype
    ))
LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_class AS v ON v.oid = w.ev_class
WHERE c.relnamespace = 'embedfleet'::regnamespace AND c.relname = ANY (%(views)s::text[])
    AND d.deptype IN ('n', 'a') AND v.oid IS DISTINCT FROM c.oid
ORDER BY what;

-- name: grants
-- What others may do with a relation, as statements that let them do the same with another one.
SELECT format(
        'GRANT %%s%%s ON embedfleet.%%I TO %%s%%s', g.privilege_type, g.of_column, %(to)s::text,
        CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
        CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    ) AS statement
FROM pg_class AS c
CROSS JOIN LATERAL (
    SELECT a.grantee, a.privilege_type, a.is_grantable, '' AS of_column
    FROM aclexplode(c.relacl) AS a
    UNION ALL
    SELECT a.grantee, a.privilege_type, a.is_grantable, format(' (%%I)', t.attname)
    FROM pg_attribute AS t
    CROSS JOIN LATERAL aclexplode(t.attacl) AS a
    WHERE t.attrelid = c.oid
) AS g
WHERE c.relnamespace = 'embedfleet'::regnamespace AND c.relname = %(relation)s
    AND g.grantee <> c.relowner
UNION
-- Who reads views in the fleet reads each.
SELECT format('GRANT SELECT ON embedfleet.%%I TO embedfleet_search', %(to)s::text)
FROM pg_namespace
WHERE nspname = 'embedfleet' AND pg_get_userbyid(nspowner) = 'embedfleet_owner' AND %(of_view)s;

-- name: revocations
-- What takes from others all that they may do with a relation.
SELECT DISTINCT format(
        'REVOKE ALL ON embedfleet.%%I FROM %%s', c.relname,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    ) AS statement
FROM pg_class AS c
CROSS JOIN LATERAL (
    SELECT a.grantee FROM aclexplode(c.relacl) AS a
    UNION
    SELECT a.grantee
    FROM pg_attribute AS t
    CROSS JOIN LATERAL aclexplode(t.attacl) AS a
    WHERE t.attrelid = c.oid
) AS a
WHERE c.relnamespace = 'embedfleet'::regnamespace AND c.relname = %(relation)s
    AND a.grantee <> c.relowner;

-- name: granted_search
-- A search that was granted: the type of its vector, and who may call it, as statements.
SELECT t.typname AS type,
    ARRAY(
        SELECT format(
            'GRANT EXECUTE ON FUNCTION embedfleet.%%I(%%s, int, jsonb) TO %%s', %(to)s::text, %(type)s::text,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        )
        FROM aclexplode(p.proacl) AS a
        WHERE a.grantee <> p.proowner
    ) AS statements
FROM pg_proc AS p
JOIN pg_type AS t ON t.oid = p.proargtypes[0]
WHERE p.pronamespace = 'embedfleet'::regnamespace AND p.proname = %(function)s;

-- name: rename_search
ALTER FUNCTION embedfleet.{function}({type}, int, jsonb) RENAME TO {name};
