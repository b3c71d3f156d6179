-- name: found
-- The language of the index on words that is there, whoever built it; whether one of ours is there; and
-- the language that is wanted, as PostgreSQL writes it.
SELECT embedfleet.text_language(%(collection)s)::text AS indexed,
    to_regclass(%(index)s) IS NOT NULL AS ours, %(language)s::regconfig::text AS wanted;

-- name: languages
SELECT string_agg(cfgname, ', ' ORDER BY cfgname)
FROM pg_ts_config
WHERE cfgnamespace = 'pg_catalog'::regnamespace;

-- name: create
CREATE INDEX CONCURRENTLY {index} ON embedfleet.{texts}
USING gin (to_tsvector({language}::regconfig, content));
