-- name: add_precision
-- What its vectors are calculated in; NULL leaves that to the workers.
ALTER TABLE embedfleet.collection ADD COLUMN precision text
    CONSTRAINT ck_collection_precision CHECK (precision = 'float32');
