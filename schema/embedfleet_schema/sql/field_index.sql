-- name: keys
-- The keys that the name of a field leads through: see migration 0027.
SELECT embedfleet.filter_keys(%(field)s);

-- name: found
-- An index, and whether it is usable.
SELECT i.indisvalid
FROM pg_index AS i
WHERE i.indexrelid = to_regclass(%(index)s);

-- name: number
-- For ranges of numbers, as `embedfleet.filter_comparison` asks for them. What is no number is not in it:
-- a long text does not fit into a B-tree, and must not keep its row out.
CREATE INDEX CONCURRENTLY {index} ON embedfleet.{chunks} (({extracted}))
WHERE jsonb_typeof({extracted}) = 'number';

-- name: date
-- For ranges of dates and times. Of a partial index, the planner takes no statistics; and what is no date
-- is NULL, and short.
CREATE INDEX CONCURRENTLY {index} ON embedfleet.{chunks} (embedfleet.instant({extracted}));

-- name: statistics
-- How many numbers there are in a range: the index on numbers is partial. Without that, the planner takes
-- each range for a narrow one, and a search looks for all that match.
CREATE STATISTICS IF NOT EXISTS embedfleet.{index}
ON (jsonb_typeof({extracted})), ({extracted}) FROM embedfleet.{chunks};

-- name: drop_statistics
DROP STATISTICS IF EXISTS embedfleet.{index};
