-- name: facts
-- How the server is set, and what it has in use.
SELECT pg_catalog.clock_timestamp() AS clock,
    current_setting('autovacuum') = 'on' AS autovacuum,
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int AS connections,
    (
        SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend'
    ) AS connected,
    current_setting('dynamic_shared_memory_type') AS shared_memory_type,
    (
        SELECT setting::bigint * 1024 FROM pg_settings WHERE name = 'maintenance_work_mem'
    ) AS maintenance_bytes,
    current_setting('max_parallel_maintenance_workers')::int AS parallel_workers;

-- name: needed_connections
-- What the workers that are alive open at the most: docs/operations.md, Sizing. A process of one slot is
-- one of a pool of processes.
SELECT coalesce(
    sum(CASE WHEN w.slots = 1 THEN 5 ELSE w.slots + 7 END
        + CASE WHEN 'api' = ANY (w.queues) THEN 3 ELSE 0 END),
    0
)::int
FROM embedfleet.worker AS w
WHERE {alive};

-- name: without_autovacuum
-- Tables of ours that somebody took autovacuum from.
SELECT c.relname
FROM pg_class AS c
CROSS JOIN LATERAL pg_options_to_table(c.reloptions) AS o
WHERE c.relnamespace = to_regnamespace('embedfleet') AND c.relkind = 'r'
    AND o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean
ORDER BY c.relname;

-- name: old_transactions
-- Sessions with a transaction that keeps a vacuum of this database from removing dead rows, as far as
-- they may be seen.
SELECT a.pid, a.usename, a.application_name, a.state, a.xact_start AS since
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND a.backend_type = 'client backend'
    AND a.xact_start < now() - make_interval(secs => %(seconds)s)
ORDER BY a.xact_start;

-- name: unused_slots
-- Slots that nobody reads, and how much of the log the server keeps for each.
SELECT s.slot_name, pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
    s.restart_lsn
)::bigint AS bytes
FROM pg_replication_slots AS s
WHERE NOT s.active AND s.restart_lsn IS NOT NULL
ORDER BY s.slot_name;

-- name: ready_seconds
-- For how long what is ready in a queue has been so, of those that are next; NULL where nothing is.
SELECT extract(epoch FROM now() - min(b.run_after))::float8
FROM (
    SELECT run_after
    FROM embedfleet.batch
    WHERE queue = %(queue)s AND state = 'pending' AND delivery = 'direct' AND run_after <= now()
    ORDER BY priority, run_after
    LIMIT 100
) AS b;
