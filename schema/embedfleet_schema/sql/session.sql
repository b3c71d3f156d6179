-- name: set_up
-- The first statement of a connection. Until it has run, the search path is anybody's who may set
-- the database's, so every name in it says where it is. It tells what the role's own limit was.
SELECT pg_catalog.current_setting('statement_timeout') AS statement_timeout,
    pg_catalog.set_config(w.name, w.value, false)
FROM unnest(%(names)s::pg_catalog.text[], %(values)s::pg_catalog.text[]) AS w (name, value);

-- name: sweeping
-- Who sweeps just now, as far as that may be seen.
SELECT a.pid, a.usename, a.application_name, a.state,
    coalesce(a.xact_start, a.state_change) AS since
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'advisory' AND l.objsubid = 2
    AND l.classid = %(space)s::oid AND l.objid = 0
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: long_held
-- Our advisory locks that one session has held for longer than anything of ours takes, by their two
-- numbers: what they are for, and a collection, 0 the sweep, less than 0 what one process of the fleet
-- does.
SELECT a.pid, a.usename, a.application_name, a.state,
    coalesce(a.xact_start, a.state_change) AS since,
    l.classid::bigint AS space,
    CASE WHEN l.objid::bigint >= 2147483648 THEN l.objid::bigint - 4294967296
        ELSE l.objid::bigint END AS number
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'advisory' AND l.objsubid = 2
    AND l.classid = ANY (%(spaces)s::oid[]) AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND coalesce(a.xact_start, a.state_change) < now() - %(seconds)s * interval '1 s'
ORDER BY since, number;

-- name: holders
-- Who holds what somebody may wait for: our advisory locks, or rows and tables of ours. A role
-- without pg_read_all_stats sees neither state nor times of other roles' sessions.
SELECT a.pid, a.usename, a.application_name, a.state,
    coalesce(a.xact_start, a.state_change) AS since
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_class AS c ON c.oid = l.relation
WHERE l.granted AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (
        l.locktype = 'advisory' AND l.classid = ANY (%(spaces)s::oid[])
        OR c.relnamespace = to_regnamespace('embedfleet')
    )
GROUP BY a.pid, a.usename, a.application_name, a.state, a.xact_start, a.state_change
ORDER BY bool_or(l.locktype = 'advisory' AND l.mode = 'ExclusiveLock') DESC,
    bool_or(l.locktype = 'advisory') DESC, bool_or(l.mode <> 'AccessShareLock') DESC,
    since NULLS FIRST, a.pid
LIMIT 3;
