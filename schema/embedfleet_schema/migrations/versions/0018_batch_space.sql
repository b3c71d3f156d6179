-- name: add_column
ALTER TABLE embedfleet.batch ADD COLUMN IF NOT EXISTS space_id bigint;

-- name: fill_page
-- Batches of a range of numbers. A page takes its row locks and gives them back: workers go on.
UPDATE embedfleet.batch AS b
SET space_id = c.space_id
FROM embedfleet.collection AS c
WHERE c.id = b.collection_id AND b.space_id IS NULL AND b.id > :after AND b.id <= :upto;

-- name: lock_batches
-- Programs of before make batches without a space until now.
LOCK TABLE embedfleet.batch IN SHARE ROW EXCLUSIVE MODE;

-- name: fill_rest
UPDATE embedfleet.batch AS b
SET space_id = c.space_id
FROM embedfleet.collection AS c
WHERE c.id = b.collection_id AND b.space_id IS NULL;

-- name: need_space
ALTER TABLE embedfleet.batch ALTER COLUMN space_id SET NOT NULL;
