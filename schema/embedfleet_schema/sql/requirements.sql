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
    ) AS vector_is_open,
    (
        SELECT count(*)
        FROM pg_class
        WHERE relnamespace = to_regnamespace('embedfleet') AND relkind = 'r'
    ) AS tables,
    current_setting('max_locks_per_transaction')::bigint AS locks_per_transaction,
    current_setting('max_connections')::bigint
        + current_setting('max_prepared_transactions')::bigint AS transactions
FROM pg_database AS d
LEFT JOIN pg_extension AS e ON e.extname = 'vector'
LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE d.datname = current_database();

-- name: versions
-- The server's version, and pgvector as installed in this database and as the server offers it.
SELECT current_setting('server_version') AS server,
    (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS offered;

-- name: pgvector
-- The version of pgvector in this database; no row where it is not installed.
SELECT extversion FROM pg_extension WHERE extname = 'vector';
