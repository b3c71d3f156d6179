-- name: versions
-- The server's version, and pgvector as installed in this database and as the server offers it.
SELECT current_setting('server_version') AS server,
    (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS offered;
