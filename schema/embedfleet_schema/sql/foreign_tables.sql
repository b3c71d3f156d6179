-- name: read_only
-- Nothing of another program's database is written.
SET TRANSACTION READ ONLY;

-- name: columns
-- The columns of a table that anybody may have made, by its name.
SELECT a.attname
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: langchain_collections
-- The collections of LangChain's former store, which all lie in one table.
SELECT name FROM {collections} ORDER BY name;

-- name: langchain
-- LangChain's former store (PGVector): a collection by its name. Here and below in no order: to sort all
-- rows with their vectors would take as much disk again.
SELECT e.{key}::text AS id, e.document AS text, e.cmetadata::text AS metadata, e.embedding::text AS vector
FROM {embeddings} AS e
JOIN {collections} AS c ON c.uuid = e.collection_id
WHERE c.name = %(name)s;

-- name: table
-- A table with a row for each text: LlamaIndex's, and LangChain's newer store (PGVectorStore).
SELECT {key}::text AS id, {text} AS text, {metadata}::text AS metadata, {vector}::text AS vector
FROM {table};

-- name: with_columns
-- A part of `table`: metadata that have columns of their own go along.
jsonb_build_object({pairs}) || coalesce({metadata}::jsonb, '{{}}');
