-- name: home
-- The schema of pgvector.
SELECT n.nspname
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- name: store_vectors
-- It is a cache: what was in it is embedded anew. A vector is finite and has up to 16,000 dimensions by
-- its type.
TRUNCATE embedfleet.query_vector;
ALTER TABLE embedfleet.query_vector
    DROP CONSTRAINT ck_query_vector_embedding,
    ALTER COLUMN embedding TYPE {vector} USING NULL;

-- name: create_request
-- Not logged: after a crash of the server, who waits is told so.
CREATE UNLOGGED TABLE embedfleet.query_request (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    space_id bigint NOT NULL,
    queue text NOT NULL,
    asked_by text NOT NULL,
    text text,
    asked_at timestamptz DEFAULT now() NOT NULL,
    rung_at timestamptz DEFAULT now() NOT NULL,
    claimed_until timestamptz,
    vector {vector},
    reason text,
    problem text,
    CONSTRAINT pk_query_request PRIMARY KEY (id)
);

-- name: index_open
CREATE INDEX ix_query_request_open ON embedfleet.query_request (queue, asked_at)
WHERE text IS NOT NULL;

-- name: create_limit
CREATE TABLE embedfleet.query_limit (
    role text NOT NULL,
    per_minute int NOT NULL,
    paid_per_minute int NOT NULL,
    characters int NOT NULL,
    CONSTRAINT pk_query_limit PRIMARY KEY (role),
    CONSTRAINT ck_query_limit_per_minute CHECK (per_minute >= 0),
    CONSTRAINT ck_query_limit_paid_per_minute CHECK (paid_per_minute >= 0),
    CONSTRAINT ck_query_limit_characters CHECK (characters > 0)
);

-- name: set_limit
-- What holds for all roles without a row of their own.
INSERT INTO embedfleet.query_limit (role, per_minute, paid_per_minute, characters)
VALUES ('', 1200, 60, 2000);

-- name: create_rate
CREATE UNLOGGED TABLE embedfleet.query_rate (
    role text NOT NULL,
    paid boolean NOT NULL,
    tat timestamptz NOT NULL,
    CONSTRAINT pk_query_rate PRIMARY KEY (role, paid)
);

-- name: create_ask
-- The vector of a text, where it is known; else the id of a request that a worker will answer, once
-- this is committed. It runs with its owner's rights: nobody else reads the requests. GCRA bounds how
-- many a role makes, by the name that it logged in with.
CREATE FUNCTION embedfleet.ask(collection text, query text, OUT id uuid, OUT vector {vector})
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    own record;
    allowed record;
    known record;
    is_paid boolean;
    most int;
    step interval;
    free_at timestamptz;
BEGIN
    IF query IS NULL OR query !~ '\S' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'there is no visible text to embed';
    END IF;
    SELECT c.space_id, c.queue, s.dimensions, s.provider, s.pause_reason,
        s.provider || '/' || s.model AS model, s.paused_at IS NOT NULL AS paused
    INTO own
    FROM embedfleet.collection AS c
    JOIN embedfleet.space AS s ON s.id = c.space_id
    WHERE c.name = ask.collection;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('there is no collection %L', collection);
    END IF;
    SELECT l.per_minute, l.paid_per_minute, l.characters INTO allowed
    FROM embedfleet.query_limit AS l
    WHERE l.role IN (session_user, '')
    ORDER BY l.role = ''
    LIMIT 1;
    IF char_length(query) > allowed.characters THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('the text has %s characters, and %s may be embedded by SQL',
                char_length(query), allowed.characters),
            HINT = 'The owner of the tables can raise it in embedfleet.query_limit.';
    END IF;

    SELECT v.embedding, v.used_at < now() - interval '1 day' AS stale INTO known
    FROM embedfleet.query_vector AS v
    WHERE v.space_id = own.space_id AND v.sha256 = sha256(convert_to(query, 'UTF8'));
    IF {vector_dims}(known.embedding) = own.dimensions THEN
        IF known.stale THEN
            UPDATE embedfleet.query_vector AS v SET used_at = now()
            WHERE v.space_id = own.space_id AND v.sha256 = sha256(convert_to(query, 'UTF8'));
        END IF;
        vector := known.embedding;
        RETURN;
    END IF;

    IF own.paused THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('%s is paused: %s', own.model, own.pause_reason),
            HINT = format('Once the cause is fixed: embedfleet resume %s', own.model);
    END IF;
    IF NOT EXISTS (
        SELECT
        FROM embedfleet.worker AS w
        WHERE own.queue = ANY (w.queues) AND w.stopped_at IS NULL
            AND w.last_seen > now() - make_interval(secs => 3 * w.heartbeat_seconds)
    ) THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('no worker serves queue %s, so nobody can embed the text', own.queue),
            HINT = format('Start one with: embedfleet worker --queue %s', own.queue);
    END IF;

    is_paid := own.provider NOT IN ('local', 'fake');
    most := CASE WHEN is_paid THEN allowed.paid_per_minute ELSE allowed.per_minute END;
    IF most > 0 THEN
        step := interval '1 minute' / most;
        INSERT INTO embedfleet.query_rate AS r (role, paid, tat)
        VALUES (session_user, is_paid, clock_timestamp() + step)
        ON CONFLICT ON CONSTRAINT pk_query_rate DO UPDATE
        SET tat = greatest(r.tat, clock_timestamp()) + step
        WHERE r.tat <= clock_timestamp() + interval '1 minute' - step
        RETURNING r.tat INTO free_at;
    END IF;
    IF free_at IS NULL THEN
        RAISE configuration_limit_exceeded USING
            MESSAGE = format('role %I may have %s texts a minute embedded by %s, and has',
                session_user, most, own.model),
            HINT = 'Try again in a minute. The owner of the tables can raise it in'
                ' embedfleet.query_limit.';
    END IF;

    INSERT INTO embedfleet.query_request AS q (space_id, queue, asked_by, text)
    VALUES (own.space_id, own.queue, session_user, query)
    RETURNING q.id INTO id;
    -- Whoever may connect can listen: it tells the queue and nothing else.
    PERFORM pg_notify('embedfleet_query', own.queue);
END
$$;

-- name: create_answer
-- What became of a request: its vector, or the reason why there is none, and whether that is a worker's
-- word (`refused`). Both are NULL while it waits; then `pause` is for how many seconds to wait until it
-- is asked for again. An answer is given once, and only to who asked. Who asks again rings again, since
-- workers may have died meanwhile.
CREATE FUNCTION embedfleet.answer(
    request uuid, OUT vector {vector}, OUT reason text, OUT refused boolean,
    OUT pause double precision
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    own record;
    age interval;
    claimed boolean;
BEGIN
    SELECT q.* INTO own
    FROM embedfleet.query_request AS q
    WHERE q.id = request AND q.asked_by = session_user;
    IF NOT FOUND THEN
        RAISE no_data_found USING
            MESSAGE = 'there is no such request for a vector: it was answered, or is older than a'
                ' minute, or the server was started anew',
            HINT = 'Ask again.';
    END IF;
    age := clock_timestamp() - own.asked_at;
    claimed := coalesce(own.claimed_until > clock_timestamp(), false);
    vector := own.vector;
    reason := own.reason;
    refused := reason IS NOT NULL;
    IF own.text IS NOT NULL AND (age > interval '5 s' AND NOT claimed OR age > interval '30 s') THEN
        reason := CASE
            WHEN own.claimed_until IS NULL THEN 'no worker took the text within 5 s'
            ELSE format('no worker answered within %s s', extract(epoch FROM age)::int)
        END || coalesce(': ' || own.problem, ' (see: embedfleet status)');
    END IF;
    IF num_nonnulls(vector, reason) > 0 THEN
        DELETE FROM embedfleet.query_request AS q WHERE q.id = request;
        RETURN;
    END IF;
    IF NOT claimed AND own.rung_at < clock_timestamp() - interval '0.5 s' THEN
        UPDATE embedfleet.query_request AS q SET rung_at = clock_timestamp() WHERE q.id = request;
        PERFORM pg_notify('embedfleet_query', own.queue);
    END IF;
    pause := CASE WHEN age < interval '0.3 s' THEN 0.003 ELSE 0.02 END;
END
$$;

-- name: create_commit_refusal
-- What PostgreSQL says, in the language of the session, where nothing can be committed because a
-- transaction was begun before the call. A function is always in one.
CREATE FUNCTION embedfleet.commit_refusal() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    COMMIT;
EXCEPTION WHEN invalid_transaction_termination THEN
    RETURN SQLERRM;
END
$$;

-- name: create_embed
-- The vector of a text, from a worker. A procedure, because the request has to be committed before a
-- worker can see it. So it can have neither its owner's rights nor a search path: it only calls what
-- has both, and names it with its schema, operators too.
CREATE PROCEDURE embedfleet.embed(
    collection pg_catalog.text, query pg_catalog.text, INOUT vector {vector} DEFAULT NULL
)
LANGUAGE plpgsql AS $$
DECLARE
    request pg_catalog.uuid;
    reason pg_catalog.text;
    pause pg_catalog.float8;
BEGIN
    IF NOT pg_catalog.has_function_privilege(
        'embedfleet.ask(pg_catalog.text, pg_catalog.text)', 'EXECUTE'
    ) THEN
        RAISE insufficient_privilege USING
            MESSAGE = pg_catalog.format(
                'role %I may not have texts embedded by SQL', current_user
            ),
            HINT = pg_catalog.format(
                'An administrator grants it with: GRANT embedfleet_ask TO %I', current_user
            );
    END IF;
    IF pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool THEN
        RAISE read_only_sql_transaction USING
            MESSAGE = 'embedfleet.embed writes a request, and this session is read-only or on a replica',
            HINT = 'Call it on the primary, or have the text embedded in Python:'
                ' Collection.embed_query("...").';
    END IF;
    BEGIN
        -- Not possible here in any case. Why, tells whether a transaction was begun before the call.
        COMMIT;
    EXCEPTION WHEN invalid_transaction_termination THEN
        IF SQLERRM OPERATOR(pg_catalog.=) embedfleet.commit_refusal() THEN
            RAISE invalid_transaction_termination USING
                MESSAGE = 'embedfleet.embed commits, so it cannot be called in a transaction or a function',
                HINT = 'Call it in autocommit mode (psycopg: connect(..., autocommit=True), Django:'
                    ' outside of atomic()), or have the text embedded in Python:'
                    ' Collection.embed_query("...").';
        END IF;
    END;
    SELECT a.id, a.vector INTO request, vector FROM embedfleet.ask(collection, query) AS a;
    COMMIT;
    WHILE vector IS NULL LOOP
        SELECT a.vector, a.reason, a.pause INTO vector, reason, pause
        FROM embedfleet.answer(request) AS a;
        COMMIT;
        IF reason IS NOT NULL THEN
            RAISE object_not_in_prerequisite_state USING MESSAGE = reason;
        END IF;
        IF vector IS NULL THEN
            PERFORM pg_catalog.pg_sleep(pause);
        END IF;
    END LOOP;
END
$$;

-- name: close_to_others
REVOKE ALL ON FUNCTION embedfleet.ask(text, text), embedfleet.answer(uuid) FROM PUBLIC;
