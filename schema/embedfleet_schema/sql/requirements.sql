-- name: facts
SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS version_number,
    pg_encoding_to_char(d.encoding) AS encoding,
    pg_is_in_recovery() AS is_replica,
    current_setting('default_transaction_read_only') = 'on' AS is_read_only,
    current_setting('synchronous_commit') = 'off' AS commits_late,
    e.extversion AS vector_version,
    n.nspname AS vector_schema,
    coalesce(
        (
            SELECT bool_or(a.grantee = 0 AND a.privilege_type = 'CREATE')
            FROM aclexplode(n.nspacl) AS a
        ),
        false
    ) AS vector_is_open
FROM pg_database AS d
LEFT JOIN pg_extension AS e ON e.extname = 'vector'
LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE d.datname = current_database();
