-- name: create
-- Where a window lands by COPY before it is merged. Emptied by the commit and left to the session: made
-- anew each time, they would fill the catalogs. Behind a pooler another program of the same user may
-- have made them, which is why their names tell how they are made.
CREATE TEMP TABLE IF NOT EXISTS {incoming_chunk} (
    document_id bigint NOT NULL, version int NOT NULL, position int NOT NULL, start_offset int,
    end_offset int, text_id bigint NOT NULL, metadata jsonb NOT NULL
) ON COMMIT DELETE ROWS;
-- The texts that are new, with the batch that each goes into.
CREATE TEMP TABLE IF NOT EXISTS {incoming_text} (
    hash uuid NOT NULL, tokens int NOT NULL, content text NOT NULL, context text,
    batch_id bigint
) ON COMMIT DELETE ROWS;
