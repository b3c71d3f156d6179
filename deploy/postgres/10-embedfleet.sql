-- Run by the image, as the superuser, when the data volume is empty. It may run again: a volume from
-- before gets the logins that it lacks, and every login the password of its secret.
--
-- Four logins, each for one side, and none of them a superuser: `embedfleet` owns the database and
-- migrates, `worker` embeds, `client` enqueues and searches, `monitor` counts. What they may do is in
-- docs/security.md.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;

\set owner_password `cat "${SECRETS:-/run/secrets}/database_password"`
\set worker_password `cat "${SECRETS:-/run/secrets}/worker_database_password"`
\set client_password `cat "${SECRETS:-/run/secrets}/client_database_password"`
\set monitor_password `cat "${SECRETS:-/run/secrets}/monitor_database_password"`

SELECT '' IN (:'owner_password', :'worker_password', :'client_password', :'monitor_password')
    AS one_is_missing \gset
\if :one_is_missing
    DO $$ BEGIN RAISE EXCEPTION 'a database password is empty: see deploy/secrets/README.md'; END $$;
\endif

SELECT format('CREATE ROLE %I NOLOGIN', name)
FROM unnest(
    ARRAY[
        'embedfleet_owner', 'embedfleet_producer', 'embedfleet_worker', 'embedfleet_search',
        'embedfleet_ask', 'embedfleet_monitor'
    ]
) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['embedfleet', 'worker', 'client', 'monitor']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

ALTER ROLE embedfleet PASSWORD :'owner_password';
ALTER ROLE worker PASSWORD :'worker_password';
ALTER ROLE client PASSWORD :'client_password';
ALTER ROLE monitor PASSWORD :'monitor_password';

GRANT embedfleet_owner TO embedfleet;
GRANT embedfleet_worker TO worker;
GRANT embedfleet_producer, embedfleet_search, embedfleet_ask TO client;
GRANT embedfleet_monitor TO monitor;

ALTER DATABASE embedfleet OWNER TO embedfleet;
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
