-- What is nearest to a document, with psql alone: the database has its vectors already.
--
--     psql "$EMBEDFLEET_DATABASE_URL" -v collection=handbook -v key=vpn.md -f examples/search.sql
--
-- For a question in words: embedfleet search handbook "how do I reset my password?" --sql | psql
SELECT embedding AS vector FROM embedfleet.:"collection" WHERE document = :'key' AND position = 0 \gset
SELECT document, position, round(score::numeric, 3) AS score
FROM embedfleet.search(:'collection', :'vector', 10, '{"lang": "en"}');
