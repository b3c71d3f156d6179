-- name: home
-- The schema of pgvector.
SELECT n.nspname
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- name: create_key
CREATE TABLE embedfleet.api_key (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_api_key PRIMARY KEY,
    name text NOT NULL CONSTRAINT uq_api_key_name UNIQUE,
    sha256 bytea NOT NULL CONSTRAINT uq_api_key_sha256 UNIQUE,
    scopes text[] NOT NULL,
    collections text[],
    per_minute int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at timestamptz,
    CONSTRAINT ck_api_key_sha256 CHECK (octet_length(sha256) = 32),
    CONSTRAINT ck_api_key_per_minute CHECK (per_minute > 0)
);

-- name: create_idempotency_key
CREATE TABLE embedfleet.idempotency_key (
    api_key_id bigint NOT NULL CONSTRAINT fk_idempotency_key_api_key_id
        REFERENCES embedfleet.api_key (id) ON DELETE CASCADE,
    sha256 bytea NOT NULL,
    request bytea NOT NULL,
    body bytea,
    counts jsonb,
    job_id bigint CONSTRAINT fk_idempotency_key_job_id
        REFERENCES embedfleet.job (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    busy_until timestamptz NOT NULL,
    CONSTRAINT pk_idempotency_key PRIMARY KEY (api_key_id, sha256),
    CONSTRAINT ck_idempotency_key_sha256 CHECK (octet_length(sha256) = 32),
    CONSTRAINT ck_idempotency_key_ended CHECK ((body IS NULL) = (counts IS NULL))
);

-- name: index_idempotency_key
CREATE INDEX ix_idempotency_key_job_id ON embedfleet.idempotency_key (job_id);

-- name: add_kind
-- As what a text is embedded. Its tokens come with the answer.
ALTER TABLE embedfleet.query_request
    ADD COLUMN kind text NOT NULL DEFAULT 'query',
    ADD COLUMN tokens int;

-- name: create_ask_many
-- Requests for many texts at once, by who may enqueue any number of them anyway: no limit but its own
-- holds. It runs with its owner's rights: nobody else reads the requests.
CREATE FUNCTION embedfleet.ask_many(space bigint, worked_by text, texts text[], kind text)
RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    own record;
    made uuid[];
BEGIN
    SELECT s.paused_at IS NOT NULL AS paused, s.provider || '/' || s.model AS model INTO own
    FROM embedfleet.space AS s
    WHERE s.id = ask_many.space;
    IF NOT FOUND OR own.paused THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('%s is paused', coalesce(own.model, 'the model'));
    END IF;
    IF NOT EXISTS (
        SELECT
        FROM embedfleet.worker AS w
        WHERE worked_by = ANY (w.queues) AND w.stopped_at IS NULL
            AND w.last_seen > now() - make_interval(secs => 3 * w.heartbeat_seconds)
    ) THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('no worker serves queue %s', worked_by);
    END IF;
    made := ARRAY(SELECT gen_random_uuid() FROM generate_series(1, cardinality(texts)));
    INSERT INTO embedfleet.query_request AS q (id, space_id, queue, asked_by, text, kind)
    SELECT each.id, ask_many.space, worked_by, session_user, each.text, ask_many.kind
    FROM unnest(made, texts) AS each (id, text);
    -- Whoever may connect can listen: it tells the queue and nothing else.
    PERFORM pg_notify('embedfleet_query', worked_by);
    RETURN made;
END
$$;

-- name: create_answers
-- What became of some requests: those that have ended, each given once and only to who asked. `refused`
-- is a worker's word; the other reasons are that no worker took the text. Who asks again rings again,
-- since workers may have died meanwhile.
CREATE FUNCTION embedfleet.answers(requests uuid[])
RETURNS TABLE (id uuid, vector {vector}, tokens int, reason text, refused boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    waiting text;
BEGIN
    RETURN QUERY
    DELETE FROM embedfleet.query_request AS q
    WHERE q.id = ANY (requests) AND q.asked_by = session_user AND q.text IS NULL
    RETURNING q.id, q.vector, q.tokens, q.reason, q.reason IS NOT NULL;

    RETURN QUERY
    DELETE FROM embedfleet.query_request AS q
    WHERE q.id = ANY (requests) AND q.asked_by = session_user AND q.text IS NOT NULL
        AND coalesce(q.claimed_until, '-infinity') < clock_timestamp()
        AND q.asked_at < clock_timestamp() - interval '30 s'
    RETURNING q.id, NULL::{vector}, NULL::int,
        coalesce(q.problem, 'no worker took the text within 30 s'), false;

    FOR waiting IN
        UPDATE embedfleet.query_request AS q SET rung_at = clock_timestamp()
        WHERE q.id = ANY (requests) AND q.asked_by = session_user AND q.text IS NOT NULL
            AND coalesce(q.claimed_until, '-infinity') < clock_timestamp()
            AND q.rung_at < clock_timestamp() - interval '0.5 s'
        RETURNING q.queue
    LOOP
        -- PostgreSQL sends what is the same once.
        PERFORM pg_notify('embedfleet_query', waiting);
    END LOOP;
END
$$;

-- name: create_withdraw
-- Nobody waits for the answers to some requests any more: those that no worker has begun go, and how
-- many did is returned. The others go with their answer, after a minute.
CREATE FUNCTION embedfleet.withdraw(requests uuid[]) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM embedfleet.query_request AS q
    WHERE q.id = ANY (requests) AND q.asked_by = session_user
        AND (q.text IS NULL OR coalesce(q.claimed_until, '-infinity') < clock_timestamp());
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

-- name: close_to_others
REVOKE ALL ON FUNCTION embedfleet.ask_many(bigint, text, text[], text), embedfleet.answers(uuid[]),
    embedfleet.withdraw(uuid[])
FROM PUBLIC;
