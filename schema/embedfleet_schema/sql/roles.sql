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
        ARRAY[
            'embedfleet_owner', 'embedfleet_producer', 'embedfleet_worker', 'embedfleet_search',
            'embedfleet_ask', 'embedfleet_monitor'
        ]
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
        TO embedfleet_owner, embedfleet_producer, embedfleet_worker, embedfleet_search,
            embedfleet_ask, embedfleet_monitor',
        current_database()
    );
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO embedfleet_producer', current_database());
END
$$;

-- name: adopt
-- The schema and what is no part of a collection go to the owner role, which needs CREATE on the
-- database for that moment and no longer.
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
            AND relname !~ '^_(documents|chunks|texts|vectors)_[0-9]'
            AND (relkind <> 'v' OR relname = 'batch_standing')
            AND relowner <> 'embedfleet_owner'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO embedfleet_owner', ours);
    END LOOP;
    FOR ours IN
        SELECT oid::regprocedure::text
        FROM pg_proc
        WHERE pronamespace = 'embedfleet'::regnamespace AND proname !~ '^search_'
            AND proowner <> 'embedfleet_owner'::regrole
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO embedfleet_owner', ours);
    END LOOP;
END
$$;

-- name: adopt_parts
-- What does the same for what the collections are made of, by what has to be done at once: a view
-- reads its tables with the rights of its owner, who has to be theirs. Searches that were granted come
-- last.
WITH parts AS (
    SELECT CASE WHEN c.relkind = 'v' THEN (
            SELECT min(t.relname)
            FROM pg_rewrite AS w
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            JOIN pg_class AS t ON d.refclassid = 'pg_class'::regclass AND t.oid = d.refobjid
            WHERE w.ev_class = c.oid AND t.relname ~ '^_documents_'
        ) ELSE c.relname END AS name,
        format('ALTER TABLE embedfleet.%I OWNER TO embedfleet_owner', c.relname) AS script
    FROM pg_class AS c
    WHERE c.relnamespace = 'embedfleet'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
        AND c.relowner <> 'embedfleet_owner'::regrole
)
SELECT coalesce(substring(name FROM '^_[a-z]+_([0-9]+)')::bigint, 0) AS part,
    string_agg(script, '; ') AS script
FROM parts
GROUP BY part
UNION ALL
SELECT oid::bigint + 2147483648,
    format('ALTER ROUTINE %s OWNER TO embedfleet_owner', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'embedfleet'::regnamespace AND proowner <> 'embedfleet_owner'::regrole
ORDER BY part;

-- name: act_as_owner
SET LOCAL ROLE embedfleet_owner;

-- name: take_back
-- The grants below are the whole truth: what another version or a person granted goes.
DO $$
DECLARE
    ours text;
    -- Where the roles were set up before there were the last ones, `migrate --roles` makes them.
    roles text := (
        SELECT string_agg(rolname, ', ') FROM pg_roles
        WHERE rolname IN (
            'embedfleet_producer', 'embedfleet_worker', 'embedfleet_search', 'embedfleet_ask',
            'embedfleet_monitor'
        )
    );
BEGIN
    FOR ours IN
        SELECT c.oid::regclass::text
        FROM pg_class AS c
        WHERE c.relnamespace = 'embedfleet'::regnamespace
            AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
            AND c.relname !~ '^_(documents|chunks|texts|vectors)_[0-9]'
            AND (c.relkind <> 'v' OR c.relname = 'batch_standing')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', ours, roles);
    END LOOP;
    FOR ours IN
        SELECT oid::regprocedure::text
        FROM pg_proc
        WHERE pronamespace = 'embedfleet'::regnamespace AND proname !~ '^search_'
    LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %s', ours, roles);
    END LOOP;
END
$$;

-- name: grant_to_all
GRANT USAGE ON SCHEMA embedfleet TO embedfleet_producer, embedfleet_worker, embedfleet_search;
GRANT SELECT ON embedfleet.alembic_version, embedfleet.space, embedfleet.collection,
    embedfleet.collection_index, embedfleet.collection_column, embedfleet.model_change,
    embedfleet.successor, embedfleet.space_check, embedfleet.rate_limit, embedfleet.limit_group
TO embedfleet_producer, embedfleet_worker, embedfleet_search;
GRANT EXECUTE ON FUNCTION embedfleet.changed_documents(bigint)
TO embedfleet_producer, embedfleet_worker, embedfleet_search;

-- name: grant_to_producer
-- UPDATE of a space's fingerprint is what its upsert needs, which sets it to what it is. Of a space
-- and of a batch a producer changes what pausing, resuming and cancelling change; that does not make
-- a lease. Operations are done in this role, so it sets limits too.
GRANT INSERT ON embedfleet.space, embedfleet.collection TO embedfleet_producer;
GRANT UPDATE (template, former_template) ON embedfleet.collection TO embedfleet_producer;
GRANT INSERT (collection_id, policy), UPDATE (policy) ON embedfleet.collection_index
TO embedfleet_producer;
GRANT UPDATE (fingerprint, paused_at, pause_code, pause_reason) ON embedfleet.space
TO embedfleet_producer;
GRANT EXECUTE ON FUNCTION embedfleet.create_relations(bigint), embedfleet.create_filter_index(bigint),
    embedfleet.add_column(bigint, text, text, text), embedfleet.index_column(bigint, text, text, text)
TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.failure TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE ON embedfleet.job TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE ON embedfleet.mirror TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.sighting, embedfleet.object
TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE (
    state, run_after, finished_at, reason, texts, job_id, priority, start_tag, chunks, tokens
) ON embedfleet.batch
TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.awaited_batch
TO embedfleet_producer, embedfleet_worker;
-- Whoever lets batches wait says where they stand among those of all tenants.
GRANT SELECT, INSERT, UPDATE (finish_tag, used_at) ON embedfleet.tenant_share
TO embedfleet_producer, embedfleet_worker;
GRANT SELECT ON embedfleet.tenant TO embedfleet_producer, embedfleet_worker;
GRANT INSERT, UPDATE (weight), DELETE ON embedfleet.tenant TO embedfleet_producer;
-- New batches have their numbers before they are written: their texts point to them.
GRANT USAGE ON SEQUENCE embedfleet.batch_id_seq TO embedfleet_producer;
GRANT SELECT ON embedfleet.worker, embedfleet.usage, embedfleet.provider_batch,
    embedfleet.batch_standing, embedfleet.collection_counter, embedfleet.job_counter
TO embedfleet_producer;
GRANT SELECT, INSERT ON embedfleet.counter_delta TO embedfleet_producer;
GRANT INSERT, UPDATE, DELETE ON embedfleet.rate_limit, embedfleet.limit_group
TO embedfleet_producer;
GRANT SELECT, INSERT (job_id, url) ON embedfleet.webhook TO embedfleet_producer;
-- Who serves the HTTP API makes its keys too, and asks for as many vectors as it enqueues texts.
GRANT SELECT, INSERT, UPDATE (revoked_at, used_at) ON embedfleet.api_key TO embedfleet_producer;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.idempotency_key TO embedfleet_producer;
GRANT EXECUTE ON FUNCTION embedfleet.ask_many(bigint, text, text[], text),
    embedfleet.answers(uuid[]), embedfleet.withdraw(uuid[])
TO embedfleet_producer;
-- A sync is made by who may create triggers on its table. The function that they call is the owner's.
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.table_sync TO embedfleet_producer;
GRANT SELECT, DELETE ON embedfleet.sync_outbox TO embedfleet_producer;
GRANT EXECUTE ON FUNCTION embedfleet.create_sync_function(bigint),
    embedfleet.drop_sync_function(bigint)
TO embedfleet_producer;
DO $$
DECLARE
    ours text;
BEGIN
    FOR ours IN
        SELECT oid::regprocedure::text
        FROM pg_proc
        WHERE pronamespace = 'embedfleet'::regnamespace AND proname ~ '^_sync_[0-9]'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO embedfleet_producer', ours);
    END LOOP;
END
$$;

-- name: grant_to_worker
-- A worker pauses a space whose provider refuses, and a job whose budget is spent, and says what may
-- have been spent on a job without an answer. What the first worker of a space recorded, no other
-- one may change.
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.batch TO embedfleet_worker;
GRANT SELECT ON embedfleet.batch_standing, embedfleet.mirror, embedfleet.object TO embedfleet_worker;
GRANT SELECT, UPDATE (paused_at, pause_reason, unsettled_usd, awaited), DELETE ON embedfleet.job
TO embedfleet_worker;
GRANT UPDATE (paused_at, pause_code, pause_reason) ON embedfleet.space TO embedfleet_worker;
GRANT SELECT, INSERT, UPDATE ON embedfleet.usage TO embedfleet_worker;
GRANT SELECT ON embedfleet.table_sync, embedfleet.sync_outbox TO embedfleet_worker;
GRANT INSERT ON embedfleet.space_check TO embedfleet_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON embedfleet.failure, embedfleet.worker,
    embedfleet.provider_batch
TO embedfleet_worker;
-- Who sends a webhook notes what became of it; where it goes is for who made the job to say.
GRANT SELECT, UPDATE (attempts, due_at, delivered_at, failed_at, reason) ON embedfleet.webhook
TO embedfleet_worker;
-- Who sweeps adds the counters up, and removes what ended: batches, jobs, provider batches, shares.
GRANT DELETE ON embedfleet.tenant_share TO embedfleet_worker;
GRANT SELECT, INSERT, DELETE ON embedfleet.counter_delta TO embedfleet_worker;
GRANT SELECT, INSERT, UPDATE ON embedfleet.collection_counter, embedfleet.job_counter
TO embedfleet_worker;
-- Who sweeps also clears the cache of queries, and who answers a request for a vector adds to it.
GRANT SELECT, INSERT, DELETE ON embedfleet.query_vector TO embedfleet_worker;
GRANT SELECT, UPDATE (claimed_until, text, vector, tokens, reason, problem), DELETE
ON embedfleet.query_request TO embedfleet_worker;

-- name: grant_to_search
-- Who searches for a text remembers its vector; producers search too.
GRANT SELECT, INSERT, UPDATE (used_at) ON embedfleet.query_vector
TO embedfleet_search, embedfleet_producer;
-- An exact search of live chunks, and one by words, in any collection: this role may read all views.
GRANT EXECUTE ON FUNCTION embedfleet.compared(bigint, jsonb, text, int, boolean),
    embedfleet.matched_by_owner(text, text, regconfig, jsonb, int)
TO embedfleet_search;

-- name: grant_to_ask
-- Who may have texts embedded by workers, which costs money with a model behind an API. Nobody but
-- these two functions makes a request or reads an answer.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embedfleet_ask') THEN
        GRANT USAGE ON SCHEMA embedfleet TO embedfleet_ask;
        GRANT EXECUTE ON FUNCTION embedfleet.ask(text, text), embedfleet.answer(uuid)
        TO embedfleet_ask;
    END IF;
END
$$;

-- name: grant_to_monitor
-- Who watches sees numbers: no text, no key of a document, and no number of a text.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embedfleet_monitor') THEN
        GRANT USAGE ON SCHEMA embedfleet TO embedfleet_monitor;
        GRANT SELECT ON embedfleet.alembic_version, embedfleet.collection_counter,
            embedfleet.job_counter, embedfleet.counter_delta
        TO embedfleet_monitor;
        GRANT SELECT (id, provider, model, paused_at, pause_code) ON embedfleet.space
        TO embedfleet_monitor;
        GRANT SELECT (id, name, queue) ON embedfleet.collection TO embedfleet_monitor;
        GRANT SELECT (id, collection_id, lane, paused_at, cancelled_at, pause_reason)
        ON embedfleet.job TO embedfleet_monitor;
        GRANT SELECT (id, job_id, queue, delivery, state, priority, start_tag, run_after, created_at,
            finished_at)
        ON embedfleet.batch TO embedfleet_monitor;
        GRANT SELECT (id, code) ON embedfleet.failure TO embedfleet_monitor;
        GRANT SELECT (id, queues, slots, reason, last_seen, stopped_at, heartbeat_seconds)
        ON embedfleet.worker TO embedfleet_monitor;
        GRANT SELECT (day, space_id, requests, tokens, usd) ON embedfleet.usage
        TO embedfleet_monitor;
        GRANT SELECT (id, collection_id, problem) ON embedfleet.table_sync TO embedfleet_monitor;
        GRANT SELECT (id, sync_id, changed_at) ON embedfleet.sync_outbox TO embedfleet_monitor;
    END IF;
END
$$;

-- name: grant_parts
-- What gives the tables and views of the collections their rights, and the tables the policy that lets
-- the fleet see all rows, each at once, where they differ from this list; later collections get theirs
-- as they are made (by functions of the migrations 0026 and 0034, which have the list too). On a search
-- that was granted, our roles have none. To change a policy locks its table, also against readers.
-- Only catalogs are read: what is stored in the schema may be its former owner's, and would run
-- with the rights of whoever sets up the roles.
WITH rights (what, role, privileges, columns) AS (
    VALUES
        ('documents', 'embedfleet_producer', '{SELECT,INSERT,UPDATE,DELETE}'::text[], '{}'::text[]),
        ('documents', 'embedfleet_worker', '{SELECT}', '{}'),
        ('documents', 'embedfleet_worker', '{UPDATE}', '{live_version,live_kept}'),
        ('documents', 'embedfleet_search', '{SELECT}', '{id,key,live_version,live_kept}'),
        ('chunks', 'embedfleet_producer', '{SELECT,INSERT,DELETE}', '{}'),
        ('chunks', 'embedfleet_worker', '{SELECT,DELETE}', '{}'),
        (
            'chunks', 'embedfleet_search', '{SELECT}',
            '{id,document_id,version,position,text_id,metadata}'
        ),
        ('texts', 'embedfleet_producer', '{SELECT,INSERT,DELETE}', '{}'),
        ('texts', 'embedfleet_producer', '{UPDATE}', '{batch_id}'),
        ('texts', 'embedfleet_worker', '{SELECT,DELETE}', '{}'),
        ('texts', 'embedfleet_worker', '{UPDATE}', '{batch_id}'),
        ('texts', 'embedfleet_search', '{SELECT}', '{id,content,context}'),
        ('vectors', 'embedfleet_producer', '{SELECT,DELETE}', '{}'),
        ('vectors', 'embedfleet_worker', '{SELECT,INSERT,DELETE}', '{}'),
        ('vectors', 'embedfleet_search', '{SELECT}', '{text_id,embedding}'),
        ('view', 'embedfleet_search', '{SELECT}', '{}')
), wanted AS (
    SELECT what,
        string_agg(format('%s %s %s', role, privilege, of_column), ', '
            ORDER BY role COLLATE "C", privilege COLLATE "C", of_column COLLATE "C") AS rights
    FROM rights
    CROSS JOIN LATERAL unnest(privileges) AS privilege
    CROSS JOIN LATERAL unnest(CASE columns WHEN '{}' THEN '{""}' ELSE columns END) AS of_column
    GROUP BY what
), grants AS (
    SELECT what, string_agg(
        format(
            'GRANT %s%s ON embedfleet.%%1$I TO %I', array_to_string(privileges, ', '),
            CASE WHEN columns <> '{}' THEN format(' (%s)', array_to_string(columns, ', ')) END, role
        ), '; '
    ) AS script
    FROM rights
    GROUP BY what
), parts AS (
    SELECT oid, relname, relacl,
        CASE WHEN relkind = 'v' THEN 'view' ELSE split_part(relname, '_', 2) END AS what
    FROM pg_class
    WHERE relnamespace = 'embedfleet'::regnamespace AND relowner = 'embedfleet_owner'::regrole
        AND (
            relkind = 'v' AND relname <> 'batch_standing'
            OR relkind = 'r' AND relname ~ '^_(documents|chunks|texts|vectors)_[0-9]'
        )
), found AS (
    SELECT p.*, (
        SELECT string_agg(format('%s %s %s', role, privilege_type, of_column), ', '
            ORDER BY role COLLATE "C", privilege_type COLLATE "C", of_column COLLATE "C")
        FROM (
            SELECT pg_get_userbyid(a.grantee) AS role, a.privilege_type, '' AS of_column
            FROM aclexplode(p.relacl) AS a
            UNION ALL
            SELECT pg_get_userbyid(a.grantee), a.privilege_type, t.attname
            FROM pg_attribute AS t
            CROSS JOIN LATERAL aclexplode(t.attacl) AS a
            WHERE t.attrelid = p.oid AND t.attacl IS NOT NULL
        ) AS given
        WHERE role IN ('embedfleet_producer', 'embedfleet_worker', 'embedfleet_search')
    ) AS rights, (
        SELECT polroles @> ARRAY[
            'embedfleet_producer'::regrole::oid, 'embedfleet_worker'::regrole::oid
        ]
        FROM pg_policy
        WHERE polrelid = p.oid AND polname = 'fleet'
    ) AS of_fleet
    FROM parts AS p
)
SELECT p.oid::bigint AS part,
    concat_ws(
        '; ',
        CASE WHEN p.rights IS DISTINCT FROM w.rights THEN format(
            'REVOKE ALL ON embedfleet.%1$I'
            ' FROM embedfleet_producer, embedfleet_worker, embedfleet_search; ' || s.script,
            p.relname
        ) END,
        CASE WHEN p.what <> 'view' AND p.of_fleet IS NOT TRUE THEN format(
            '%s POLICY fleet ON embedfleet.%I TO embedfleet_producer, embedfleet_worker'
            ' USING (true) WITH CHECK (true)',
            CASE WHEN p.of_fleet IS NULL THEN 'CREATE' ELSE 'ALTER' END, p.relname
        ) END
    ) AS script
FROM found AS p
JOIN wanted AS w USING (what)
JOIN grants AS s USING (what)
WHERE p.rights IS DISTINCT FROM w.rights OR p.what <> 'view' AND p.of_fleet IS NOT TRUE
UNION ALL
SELECT p.oid::bigint,
    format(
        'REVOKE ALL ON ROUTINE %s FROM embedfleet_producer, embedfleet_worker, embedfleet_search',
        p.oid::regprocedure
    )
FROM pg_proc AS p
WHERE p.pronamespace = 'embedfleet'::regnamespace AND p.proowner = 'embedfleet_owner'::regrole
    AND p.proname ~ '^search_'
    AND EXISTS (
        SELECT
        FROM aclexplode(p.proacl) AS a
        JOIN pg_roles AS r ON r.oid = a.grantee
        WHERE r.rolname IN ('embedfleet_producer', 'embedfleet_worker', 'embedfleet_search')
    )
ORDER BY part;

-- name: lock
-- One migration at a time.
SELECT pg_advisory_xact_lock(%(space)s, -1);
