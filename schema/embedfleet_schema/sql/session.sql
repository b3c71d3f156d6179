-- name: begin
-- How every transaction of ours starts, sent as one message: so what matters is set wherever it runs,
-- and nothing stays behind in a session that a pooler gives to others next. SET looks up no name: until
-- the path is set it is anybody's who may set the database's.
BEGIN ISOLATION LEVEL READ COMMITTED;
-- Names of ours are qualified. Nothing that others made, in `public` or in temporary tables, is found
-- by the rest; "pg_temp" is named to come last, it would be searched first otherwise.
SET LOCAL search_path = pg_catalog, pg_temp;
-- A process that is frozen gives its locks back.
SET LOCAL idle_in_transaction_session_timeout = {idle_ms};
SET LOCAL lock_timeout = {lock_wait_ms};
-- An audit takes its time; a search keeps to the role's own limit.
SET LOCAL statement_timeout = 0{more};
-- What the driver can read, and what the statements are written for.
SET LOCAL datestyle = ISO;
SET LOCAL intervalstyle = postgres;
SET LOCAL standard_conforming_strings = on;

-- name: begin_since_17
;
SET LOCAL transaction_timeout = 0

-- name: statement_timeout
-- What the role, the database or the URL say, whatever this transaction has set.
SELECT reset_val FROM pg_settings WHERE name = 'statement_timeout';

-- name: keep
-- What this transaction was set to, for all that follow in a session of our own, whoever starts them.
SELECT set_config(name, coalesce(value, current_setting(name)), false)
FROM (VALUES
    ('search_path', NULL), ('idle_in_transaction_session_timeout', NULL), ('lock_timeout', NULL),
    ('statement_timeout', NULL), ('transaction_timeout', NULL), ('datestyle', NULL),
    ('intervalstyle', NULL), ('standard_conforming_strings', NULL),
    ('default_transaction_isolation', 'read committed')
) AS s (name, value)
WHERE current_setting(name, true) IS NOT NULL;

-- name: watch
-- Of a connection that no pooler has in hand. A server keeps the locks of a machine that lost its
-- power, or its network, for a minute at the most; a pool of ours may be idle for long.
SET tcp_keepalives_idle = 20;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 50000;
SET idle_session_timeout = 0;

-- name: backend
-- Who serves this connection; a pooler tells a number of its own when it is opened.
SELECT pg_catalog.pg_backend_pid();

-- name: identity
-- Which database of which cluster this is, through a pooler, too.
SELECT c.system_identifier, d.oid
FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database();

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
