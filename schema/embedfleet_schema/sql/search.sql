-- name: set
-- How long a search may take, and the space of its vector: one of another space is refused.
SELECT set_config('statement_timeout', %(statement_timeout)s, true),
    set_config('embedfleet.space', %(space)s, true);

-- name: own
-- Before a search. The collection's vectors are named beside its view, in the order of a drop, and
-- nothing is read: of one that was dropped they are not there, and the next one of its name is not
-- searched.
WITH own AS (SELECT FROM embedfleet.{view}, embedfleet.{vectors});

-- name: search
-- The function (migration 0027) decides how, and leaves no setting behind.
SELECT id, document, position, content, metadata, score
FROM embedfleet.search({collection}, {query}, {k}, filter => {filter}, min_score => {min_score});

-- name: statement
SELECT id, document, position, content, metadata, score
FROM embedfleet.search({collection}, {query}, {k}{options});

-- name: condition
-- A filter as SQL.
SELECT embedfleet.filter_condition(%(filter)s);

-- name: hybrid_search
SELECT id, document, position, content, metadata, score
FROM embedfleet.hybrid_search(
    {collection}, {question}, {query}, {k}, filter => {filter}, language => {language}::regconfig,
    text_weight => {text_weight}, vector_weight => {vector_weight}, constant => {constant}
);

-- name: diverse
SELECT id, document, position, content, metadata, score
FROM embedfleet.diverse(
    {collection}, {query}, {k}, filter => {filter}, weight => {weight}, candidates => {candidates}
);

-- name: chunks
-- What readers see of some documents.
SELECT id, document, position, content, metadata
FROM embedfleet.{view}
WHERE document = ANY (%(keys)s)
ORDER BY document, position;

-- name: nearest_documents
SELECT id, document, position, content, metadata, score
FROM embedfleet.nearest_documents({collection}, {query}, {k});

-- name: similar
SELECT id, document, position, own_position, content, metadata, score
FROM embedfleet.similar({collection}, {key}, {k}, {threshold});

-- name: duplicates
SELECT cluster, id, document, position, other_id, other_document, other_position, score
FROM embedfleet.duplicates({collection}, {threshold}, {exact});
