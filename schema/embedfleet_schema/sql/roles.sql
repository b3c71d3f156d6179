-- name: in_use
-- Whether the roles were set up in this database: then its schema belongs to one of them.
SELECT EXISTS (
    SELECT
    FROM pg_namespace
    WHERE nspname = 'embedfleet' AND pg_get_userbyid(nspowner) = 'embedfleet_owner'
) AS in_use;

-- name: become_owner
-- For the rest of a transaction, or of the session; nothing where the user of this connection is the
-- owner.
SELECT set_config('role', pg_get_userbyid(nspowner)::text, %(until_commit)s)
FROM pg_namespace
WHERE nspname = 'embedfleet' AND pg_get_userbyid(nspowner) <> current_user;

-- name: code_of_others
-- What somebody hung on our tables and a migration would run: triggers, rules, policies, defaults
-- and checks that call what neither PostgreSQL nor pgvector brought. Empty where whoever is logged
-- in has no more rights than the owner, who could do the same.
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) AS what
FROM pg_class AS c
JOIN pg_depend AS o
    ON o.refclassid = 'pg_class'::regclass AND o.refobjid = c.oid
        AND o.classid IN (
            'pg_trigger'::regclass, 'pg_rewrite'::regclass, 'pg_policy'::regclass,
            'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass
        )
JOIN pg_depend AS d ON d.classid = o.classid AND d.objid = o.objid
WHERE c.relnamespace = to_regnamespace('embedfleet') AND c.relkind IN ('r', 'p', 'v')
    AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
    AND NOT EXISTS (
        SELECT
        FROM pg_depend AS e
        WHERE e.classid = d.refclassid AND e.objid = d.refobjid
            AND e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e'
    )
    AND (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)
    AND (
        SELECT pg_get_userbyid(nspowner) <> session_user
        FROM pg_namespace WHERE nspname = 'embedfleet'
    )
ORDER BY what;

-- name: create
-- Groups without a login, which the deployment grants to its users. Roles belong to the whole
-- server: a second database finds them there.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY
        ARRAY['embedfleet_owner', 'embedfleet_producer', 'embedfleet_worker', 'embedfleet_search']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END
$$;

-- name: join_owner
-- Whoever sets up the roles goes on as before. Since PostgreSQL 16 a membership may be one that
-- does not let its holder act as the role.
DO $$
DECLARE
    asked text := CASE WHEN current_setting('server_version_num')::int >= 160000
        THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF NOT pg_has_role('embedfleet_owner', asked) THEN
        EXECUTE format('GRANT embedfleet_owner TO %I', current_user);
    END IF;
END
$$;

-- name: open_database
-- What PUBLIC has by default, for servers where it was taken away. Enqueueing uses temporary tables.
DO $$
BEGIN
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I
        TO embedfleet_owner, embedfleet_producer, embedfleet_worker, embedfleet_search',
        current_database()
    );
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO embedfleet_producer', current_database());
END
$$;

-- name: adopt
-- The schema and all in it go to the owner role, which needs CREATE on the database for that
-- moment and no longer.
DO $$
DECLARE
    ours text;
BEGIN
    IF (SELECT nspowner <> 'embedfleet_owner'::regrole FROM pg_namespace
        WHERE nspname = 'embedfleet') THEN
        EXECUTE format('GRANT CREATE ON DATABASE %I TO embedfleet_owner', current_database());
        ALTER SCHEMA embedfleet OWNER TO embedfleet_owner;
        EXECUTE format('REVOKE CREATE ON DATABASE %I FROM embedfleet_owner', current_database());
    END IF;
    FOR ours IN
        SELECT oid::regclass::text
        FROM pg_class
        WHERE relnamespace = 'embedfleet'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
            AND relowner <> 'embedfleet_owner'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO embedfleet_owner', ours);
    END LOOP;
    FOR ours IN
        SELECT oid::regprocedure::text
        FROM pg_proc
        WHERE pronamespace = 'embedfleet'::regnamespace
            AND proowner <> 'embedfleet_owner'::regrole
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO embedfleet_owner', ours);
    END LOOP;
END
$$;

-- name: act_as_owner
SET LOCAL ROLE embedfleet_owner;

-- name: take_back
-- The grants below are the whole truth: what another version or a person granted goes.
REVOKE ALL ON ALL TABLES IN SCHEMA embedfleet
FROM embedfleet_producer, embedfleet_worker, embedfleet_search;
REVOKE ALL ON ALL ROUTINES IN SCHEMA embedfleet
FROM embedfleet_producer, embedfleet_worker, embedfleet_search;

-- name: grant_to_all
GRANT USAGE ON SCHEMA embedfleet TO embedfleet_producer, embedfleet_worker, embedfleet_search;
GRANT SELECT ON embedfleet.alembic_version, embedfleet.space, embedfleet.collection,
    embedfleet.space_check, embedfleet.rate_limit, embedfleet.limit_group
TO embedfleet_producer, embedfleet_worker, embedfleet_search;

-- name: grant_to_producer
-- UPDATE of a space's fingerprint is what its upsert needs, which sets it to what it is. Of a space
-- and of a batch a producer changes what pausing, resuming and cancelling change; that does not make
-- a lease. Operations are done in this role, so it sets limits too.
GRANT INSERT ON embedfleet.space, embedfleet.collection TO embedfleet_producer;
GRANT UPDATE (fingerprint, paused_at, pause_code, pause_reason) ON embedfleet.space
TO embedfleet_producer;
GRANT EXECUTE ON FUNCTION embedfleet.create_relations(bigint) TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.failure TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE ON embedfleet.job TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE (state, run_after, finished_at, reason, texts) ON embedfleet.batch
TO embedfleet_producer;
GRANT SELECT ON embedfleet.worker, embedfleet.usage, embedfleet.lane_file,
    embedfleet.batch_standing
TO embedfleet_producer;
GRANT INSERT, UPDATE, DELETE ON embedfleet.rate_limit, embedfleet.limit_group
TO embedfleet_producer;

-- name: grant_to_worker
-- A worker pauses a space whose provider refuses, and a job whose budget is spent, and says what may
-- have been spent on a job without an answer. What the first worker of a space recorded, no other
-- one may change.
GRANT SELECT, INSERT, UPDATE ON embedfleet.batch TO embedfleet_worker;
GRANT SELECT ON embedfleet.batch_standing TO embedfleet_worker;
GRANT SELECT, UPDATE (paused_at, pause_reason, unsettled_usd) ON embedfleet.job
TO embedfleet_worker;
GRANT UPDATE (paused_at, pause_code, pause_reason) ON embedfleet.space TO embedfleet_worker;
GRANT SELECT, INSERT, UPDATE ON embedfleet.usage, embedfleet.lane_file TO embedfleet_worker;
GRANT INSERT ON embedfleet.space_check TO embedfleet_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.failure, embedfleet.worker
TO embedfleet_worker;
-- Who sweeps also clears the cache of queries.
GRANT SELECT, DELETE ON embedfleet.query_vector TO embedfleet_worker;

-- name: grant_to_search
-- Who searches for a text remembers its vector; producers search too.
GRANT SELECT, INSERT, UPDATE (used_at) ON embedfleet.query_vector
TO embedfleet_search, embedfleet_producer;
-- An exact search of live chunks, in any collection: this role may read all views.
GRANT EXECUTE ON FUNCTION embedfleet.compared(bigint, jsonb, text, int, boolean)
TO embedfleet_search;

-- name: grant_relations
-- The tables and views of the collections that are there, and the policy that lets the fleet see all
-- rows; later ones get theirs as they are made (by functions of migration 0019, which have this list
-- too).
-- Only catalogs are read: what is stored in the schema may be its former owner's, and would run
-- with the rights of whoever sets up the roles.
DO $$
DECLARE
    ours record;
    rights text;
BEGIN
    FOR ours IN
        SELECT oid, format('embedfleet.%I', relname) AS name,
            CASE WHEN relkind = 'v' THEN 'view' ELSE split_part(relname, '_', 2) END AS what
        FROM pg_class
        WHERE relnamespace = 'embedfleet'::regnamespace
            AND (
                relkind = 'v' AND relname <> 'batch_standing'
                OR relkind = 'r' AND relname ~ '^_(documents|chunks|texts|vectors)_[0-9]'
            )
    LOOP
        FOR rights IN
            SELECT r.rights
            FROM (VALUES
                ('documents', 'SELECT, INSERT, UPDATE, DELETE ON %s TO embedfleet_producer'),
                ('documents', 'SELECT, UPDATE (live_version) ON %s TO embedfleet_worker'),
                ('chunks', 'SELECT, INSERT, DELETE ON %s TO embedfleet_producer'),
                ('chunks', 'SELECT, DELETE ON %s TO embedfleet_worker'),
                ('texts', 'SELECT, INSERT, DELETE ON %s TO embedfleet_producer'),
                ('texts', 'SELECT, DELETE ON %s TO embedfleet_worker'),
                ('vectors', 'SELECT, DELETE ON %s TO embedfleet_producer'),
                ('vectors', 'SELECT, INSERT, DELETE ON %s TO embedfleet_worker'),
                ('view', 'SELECT ON %s TO embedfleet_search'),
                ('documents', 'SELECT (id, key, live_version) ON %s TO embedfleet_search'),
                (
                    'chunks',
                    'SELECT (id, document_id, version, position, text_id, metadata) ON %s'
                    ' TO embedfleet_search'
                ),
                ('texts', 'SELECT (id, content) ON %s TO embedfleet_search'),
                ('vectors', 'SELECT (text_id, embedding) ON %s TO embedfleet_search')
            ) AS r (what, rights)
            WHERE r.what = ours.what
        LOOP
            EXECUTE format('GRANT ' || rights, ours.name);
        END LOOP;
        -- To change a policy locks its table, also against readers.
        CONTINUE WHEN ours.what = 'view' OR EXISTS (
            SELECT
            FROM pg_policy
            WHERE polrelid = ours.oid AND polname = 'fleet'
                AND polroles @> ARRAY[
                    'embedfleet_producer'::regrole::oid, 'embedfleet_worker'::regrole::oid
                ]
        );
        EXECUTE format(
            '%s POLICY fleet ON %s TO embedfleet_producer, embedfleet_worker
            USING (true) WITH CHECK (true)',
            CASE WHEN EXISTS (
                SELECT FROM pg_policy WHERE polrelid = ours.oid AND polname = 'fleet'
            ) THEN 'ALTER' ELSE 'CREATE' END,
            ours.name
        );
    END LOOP;
END
$$;

-- name: lock
-- One migration at a time.
SELECT pg_advisory_xact_lock(%(space)s, -1);
