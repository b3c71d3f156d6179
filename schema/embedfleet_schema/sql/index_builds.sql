-- name: alone
-- Of the session, which ends with the build: one process at a time changes the indexes of a collection.
-- Whoever waited in a statement would be waited for, by a build that waits for older ones.
SELECT pg_try_advisory_lock(%(space)s, %(collection_id)s) AS alone;

-- name: set_build
-- Of the session, which is the build's own and ends with it: it runs in no transaction. A build waits
-- for transactions that are older than it, also at its end, when hours would be lost.
SELECT set_config('lock_timeout', '0', false),
    set_config('maintenance_work_mem', %(memory)s, false),
    set_config('max_parallel_maintenance_workers',
        coalesce(%(workers)s, current_setting('max_parallel_maintenance_workers')), false);

-- name: watch_client
-- A build whose client is gone ends: it would go on for hours, and nobody would get to know.
SELECT set_config('client_connection_check_interval', '2s', false);

-- name: be_brief
-- For what is tidied up after a build that failed: it may wait for those who write, but not for long.
SELECT set_config('lock_timeout', '5s', false);

-- name: drop
DROP INDEX CONCURRENTLY IF EXISTS embedfleet.{index};

-- name: analyze
-- Fresh statistics: without them the planner takes the view for a handful of rows and sorts it all.
ANALYZE embedfleet.{vectors}, embedfleet.{texts}, embedfleet.{chunks}, embedfleet.{documents};

-- name: progress
SELECT p.command, p.phase, p.current_locker_pid, p.tuples_done, p.tuples_total, p.blocks_done,
    p.blocks_total
FROM pg_stat_progress_create_index AS p
WHERE p.relid = ANY (%(tables)s::regclass[]);
