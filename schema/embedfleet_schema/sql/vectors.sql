-- name: types
-- The types of the extension, wherever it was put.
SELECT t.typname, t.oid, t.typarray, n.nspname
FROM pg_extension AS e
JOIN pg_depend AS d
    ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        AND d.classid = 'pg_type'::regclass
JOIN pg_type AS t ON t.oid = d.objid
JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE e.extname = 'vector' AND t.typname IN ('vector', 'halfvec');
