-- name: name_index
-- Indexes and columns are called by the words of the glossary.
ALTER INDEX IF EXISTS embedfleet.ix_job_halted RENAME TO ix_job_stopped;

-- name: name_column
ALTER VIEW embedfleet.batch_standing RENAME COLUMN limited TO has_budget;

-- name: create_function
-- The index on metadata of a new collection. It runs with its owner's rights, as create_relations does.
-- A table with rows is refused: writers would wait for the build, and `embedfleet index` keeps nobody
-- waiting. What comes in waits in a list, which each search with a filter reads: no more than 1 MB.
CREATE OR REPLACE FUNCTION embedfleet.create_filter_index(collection_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chunks text;
    filled boolean;
BEGIN
    SELECT '_chunks_' || c.id INTO STRICT chunks
    FROM embedfleet.collection AS c
    WHERE c.id = create_filter_index.collection_id;
    EXECUTE format('SELECT EXISTS (SELECT FROM embedfleet.%I)', chunks) INTO filled;
    IF filled THEN
        RAISE EXCEPTION '% has rows', chunks USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format(
        'CREATE INDEX %I ON embedfleet.%I USING gin (metadata jsonb_path_ops)
        WITH (gin_pending_list_limit = 1024)',
        chunks || '_filter', chunks
    );
END
$$;

-- name: close_to_others
REVOKE ALL ON FUNCTION embedfleet.create_filter_index(bigint) FROM PUBLIC;
