-- name: find
-- What a person calls a table, by the rules of SQL; without a schema, in `public`.
SELECT to_regclass(
    CASE cardinality(parse_ident(%(name)s))
        WHEN 1 THEN format('public.%%I', (parse_ident(%(name)s))[1])
        ELSE %(name)s
    END
)::oid::bigint AS relation;

-- name: user
SELECT quote_ident(current_user::text);

-- name: relation
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    c.relpersistence = 't' AS is_temporary, c.relispartition AS is_partition,
    c.relkind = 'r' AND EXISTS (
        SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhparent, i.inhrelid)
    ) AS inherits,
    n.nspname = 'embedfleet' AS is_ours,
    row_security_active(c.oid) AS filtered
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = %(relation)s::oid;

-- name: columns
-- A domain is what it is made of. What PostgreSQL brought itself has a small number.
WITH RECURSIVE types AS (
    SELECT a.attnum, t.oid, t.typtype, t.typbasetype
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = %(relation)s::oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT u.attnum, t.oid, t.typtype, t.typbasetype
    FROM types AS u
    JOIN pg_type AS t ON t.oid = u.typbasetype
    WHERE u.typtype = 'd'
)
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, n.nspname AS type_schema,
    d.typname AS type_name, a.attnotnull AS not_null,
    t.oid < 16384 AS is_builtin, t.typtype = 'e' AS is_enum,
    t.oid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bytea'::regtype) AS has_length,
    has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
FROM pg_attribute AS a
JOIN pg_type AS d ON d.oid = a.atttypid
JOIN pg_namespace AS n ON n.oid = d.typnamespace
JOIN types AS t ON t.attnum = a.attnum AND t.typtype <> 'd'
WHERE a.attrelid = %(relation)s::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: unique_index
-- The columns of an index by which rows are found and read in order, in its own order.
SELECT (
    SELECT array_agg(a.attname::text ORDER BY k.ordinality)
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE k.ordinality <= i.indnkeyatts
) AS columns
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
WHERE i.indrelid = %(relation)s::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, i.indexrelid;

-- name: triggers
-- The table and its partitions, with the events that no trigger of ours tells, and those of which one
-- is switched off.
WITH tables AS (
    SELECT %(relation)s::oid AS oid
    UNION
    SELECT relid FROM pg_partition_tree(%(relation)s::oid::regclass)
)
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    has_table_privilege(c.oid, 'TRIGGER') AS may_trigger,
    ARRAY(
        SELECT e.name
        FROM (VALUES ('insert', 4), ('update', 16), ('delete', 8), ('truncate', 32)) AS e (name, bit)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger AS t
            WHERE t.tgrelid = c.oid AND t.tgfoid = f.oid AND t.tgtype & e.bit <> 0
        )
    ) AS lacking,
    EXISTS (
        SELECT FROM pg_trigger AS t
        WHERE t.tgrelid = c.oid AND t.tgfoid = f.oid AND t.tgenabled NOT IN ('O', 'A')
    ) AS is_disabled
FROM tables AS s
JOIN pg_class AS c ON c.oid = s.oid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_proc AS f ON f.oid = to_regproc(format('embedfleet.%%I', %(function)s::text))
ORDER BY c.oid = %(relation)s::oid DESC, c.oid;
