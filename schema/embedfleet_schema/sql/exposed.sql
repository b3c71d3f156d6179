-- name: find
-- What has the name of the view: its kind, and whether it is a view of ours of this collection.
SELECT c.relkind = 'v' AND EXISTS (
        SELECT
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        JOIN pg_class AS t ON d.refclassid = 'pg_class'::regclass AND t.oid = d.refobjid
        WHERE w.ev_class = c.oid AND t.relname = %(documents)s
    )
    AND NOT EXISTS (SELECT FROM embedfleet.collection AS o WHERE o.name = c.relname) AS ours
FROM pg_class AS c
WHERE c.relnamespace = 'embedfleet'::regnamespace AND c.relname = %(view)s;

-- name: serialize
-- A collection of that name, made at the same moment, waits.
SELECT pg_advisory_xact_lock(%(space)s, hashtext(%(name)s));

-- name: create_llamaindex
-- What LlamaIndex's PGVectorStore reads of a table of its own. It runs with its reader's rights, over
-- the tables that the view of the collection reads: policies show live rows alone. Its `node_id` is
-- the number of the chunk; `document` and `position` are among its metadata.
CREATE OR REPLACE VIEW embedfleet.{view} WITH (security_invoker = on) AS
SELECT c.id, t.content AS text,
    c.metadata || jsonb_build_object('document', d.key, 'position', c.position) AS metadata_,
    c.id::text AS node_id, v.embedding
FROM embedfleet.{vectors} AS v
JOIN embedfleet.{chunks} AS c ON c.text_id = v.text_id
JOIN embedfleet.{documents} AS d ON d.id = c.document_id
    AND (d.live_version = c.version OR c.id <@ d.live_kept)
JOIN embedfleet.{texts} AS t ON t.id = c.text_id;

-- name: grant
-- Who may read all views may read this one, where the roles are in use.
DO $$
BEGIN
    IF current_user = 'embedfleet_owner' THEN
        GRANT SELECT ON embedfleet.{view} TO embedfleet_search;
    END IF;
END
$$;

-- name: drop
DROP VIEW IF EXISTS embedfleet.{view} {behaviour};
