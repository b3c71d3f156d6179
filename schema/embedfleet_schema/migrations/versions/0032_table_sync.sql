-- name: create_table_sync
CREATE TABLE embedfleet.table_sync (
    id bigint GENERATED ALWAYS AS IDENTITY,
    collection_id bigint NOT NULL,
    relation regclass NOT NULL,
    key_columns text[] NOT NULL,
    text_columns text[] NOT NULL,
    metadata_columns text[] NOT NULL,
    source text NOT NULL,
    layout text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    paused_at timestamptz,
    turn bigint DEFAULT 0 NOT NULL,
    waits boolean DEFAULT false NOT NULL,
    backfill_after text[],
    backfilled bigint DEFAULT 0 NOT NULL,
    backfilled_at timestamptz,
    backfill_job_id bigint,
    job_id bigint,
    verify_due boolean DEFAULT false NOT NULL,
    verified_at timestamptz,
    differences bigint,
    problem text,
    CONSTRAINT pk_table_sync PRIMARY KEY (id),
    CONSTRAINT uq_table_sync_collection_id UNIQUE (collection_id),
    CONSTRAINT fk_table_sync_collection_id FOREIGN KEY (collection_id)
        REFERENCES embedfleet.collection (id) ON DELETE CASCADE,
    -- The number of an advisory lock.
    CONSTRAINT ck_table_sync_id CHECK (id BETWEEN 1 AND 2147483647),
    CONSTRAINT ck_table_sync_columns CHECK (
        cardinality(key_columns) > 0 AND cardinality(text_columns) > 0
    )
);

-- name: create_sync_outbox
-- Written by each statement on a synced table and emptied soon after: vacuumed by what is dead, not by
-- the share of it. No reference to the sync, which each of those statements would have to look up.
CREATE TABLE embedfleet.sync_outbox (
    sync_id bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    keys text[],
    changed_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_sync_outbox PRIMARY KEY (sync_id, id)
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- name: create_create_sync_function
-- The function of all triggers of one sync: it writes the keys of rows that came, went, or differ in a
-- named column. It runs with its owner's rights, so who writes to the table needs none here; and it lets
-- the statement pass, whatever happens to it.
--
-- A value becomes text by `concat`, which calls the output function of its type: a cast may be code of
-- whoever owns the table, and would run with the rights of the owner of this function. Rows are
-- compared as they are stored (*<>), which any type can be, and two values of different sizes without being
-- read. A column that is computed when it is read is in no row: what it is computed from counts. A FULL
-- JOIN is never a nested loop, which a plan that was kept from a small statement could be.
CREATE FUNCTION embedfleet.create_sync_function(sync_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $create$
DECLARE
    own record;
    key text;
    named text;
    body text;
    name text := '_sync_' || sync_id;
BEGIN
    SELECT s.* INTO STRICT own FROM embedfleet.table_sync AS s WHERE s.id = sync_id;
    SELECT string_agg(format('concat(r.%I)', k.name), ', ' ORDER BY k.ordinality) INTO key
    FROM unnest(own.key_columns) WITH ORDINALITY AS k (name);
    IF cardinality(own.key_columns) > 1 THEN
        key := format('jsonb_build_array(%s)::text', key);
    END IF;
    SELECT string_agg(format('r.%I', a.attname), ', ' ORDER BY a.attnum) INTO named
    FROM pg_attribute AS a
    WHERE a.attrelid = own.relation AND a.attnum > 0 AND a.attgenerated <> 'v'
        AND (
            a.attname = ANY (own.text_columns || own.metadata_columns)
            OR EXISTS (
                SELECT
                FROM pg_attribute AS g
                JOIN pg_attrdef AS d ON d.adrelid = g.attrelid AND d.adnum = g.attnum
                JOIN pg_depend AS p
                    ON p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid
                        AND p.refobjsubid = a.attnum
                        AND (
                            (p.classid, p.objid) = ('pg_attrdef'::regclass, d.oid)
                            OR (p.classid, p.objid) = ('pg_class'::regclass, a.attrelid)
                                AND p.objsubid = g.attnum
                        )
                WHERE g.attrelid = a.attrelid AND g.attgenerated = 'v'
                    AND g.attname = ANY (own.text_columns || own.metadata_columns)
            )
        );
    -- As a literal: no name of a column can end it.
    body := format(
        $body$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO embedfleet.sync_outbox (sync_id, keys)
        SELECT %1$s, array_agg(key)
        FROM (
            SELECT %2$s AS key, (row_number() OVER () - 1) / 100 AS part FROM new_rows AS r
        ) AS each
        GROUP BY part;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO embedfleet.sync_outbox (sync_id, keys)
        SELECT %1$s, array_agg(key)
        FROM (
            SELECT %2$s AS key, (row_number() OVER () - 1) / 100 AS part FROM old_rows AS r
        ) AS each
        GROUP BY part;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO embedfleet.sync_outbox (sync_id, keys)
        SELECT %1$s, array_agg(key)
        FROM (
            SELECT coalesce(n.key, o.key) AS key, (row_number() OVER () - 1) / 100 AS part
            FROM (SELECT %2$s AS key, ROW(%3$s)::record AS named FROM new_rows AS r) AS n
            FULL JOIN (SELECT %2$s AS key, ROW(%3$s)::record AS named FROM old_rows AS r) AS o
                ON o.key = n.key
            WHERE n.key IS NULL OR o.key IS NULL OR n.named *<> o.named
        ) AS each
        GROUP BY part;
    ELSE
        INSERT INTO embedfleet.sync_outbox (sync_id) VALUES (%1$s);
    END IF;
    -- A notification makes commits wait for one another, so it is sent to who waits for it. A transaction
    -- with one cannot be prepared: where some may be, whoever follows finds the change by himself.
    IF FOUND AND current_setting('max_prepared_transactions') = '0' AND EXISTS (
        SELECT FROM embedfleet.table_sync AS s WHERE s.id = %1$s AND s.waits
    ) THEN
        PERFORM pg_notify('embedfleet_sync', '');
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'embedfleet did not note this change of %%: %%', TG_RELID::regclass, SQLERRM
    USING HINT = 'The statement itself went through. To find what was missed: embedfleet sync verify';
    RETURN NULL;
END
        $body$,
        sync_id, key, coalesce(named, '')
    );
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION embedfleet.%I() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        SET datestyle = ''ISO''
        SET intervalstyle = ''postgres''
        SET timezone = ''UTC''
        SET bytea_output = ''hex''
        SET extra_float_digits = 1
        SET lock_timeout = ''1s''
        AS %L',
        name, body
    );
    EXECUTE format('REVOKE ALL ON FUNCTION embedfleet.%I() FROM PUBLIC', name);
    IF current_user = 'embedfleet_owner' THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION embedfleet.%I() TO embedfleet_producer', name);
    END IF;
END
$create$;

-- name: create_drop_sync_function
-- With the triggers that call it: to drop them one by one, one would have to own the table.
CREATE FUNCTION embedfleet.drop_sync_function(sync_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET client_min_messages = 'warning' AS $$
BEGIN
    EXECUTE format('DROP FUNCTION IF EXISTS embedfleet.%I() CASCADE', '_sync_' || sync_id);
END
$$;

-- name: close_to_others
REVOKE ALL ON FUNCTION embedfleet.create_sync_function(bigint), embedfleet.drop_sync_function(bigint)
FROM PUBLIC;
