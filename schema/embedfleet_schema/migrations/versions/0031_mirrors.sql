-- name: create_mirror
CREATE TABLE embedfleet.mirror (
    job_id bigint NOT NULL,
    since timestamptz NOT NULL,
    ended_at timestamptz,
    deleted bigint DEFAULT 0 NOT NULL,
    undeleted text,
    CONSTRAINT pk_mirror PRIMARY KEY (job_id),
    CONSTRAINT fk_mirror_job_id FOREIGN KEY (job_id) REFERENCES embedfleet.job (id) ON DELETE CASCADE
);

-- name: index_open
CREATE INDEX ix_mirror_open ON embedfleet.mirror (job_id) WHERE ended_at IS NULL;

-- name: create_sighting
-- Not logged: one row for each document of a source, which goes when its mirror ends. After a crash of
-- the server a mirror finds that its first row is gone, and deletes nothing.
CREATE UNLOGGED TABLE embedfleet.sighting (
    collection_id bigint NOT NULL,
    document_id bigint NOT NULL,
    job_id bigint NOT NULL,
    seen_at timestamptz DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT pk_sighting PRIMARY KEY (collection_id, document_id, job_id),
    CONSTRAINT fk_sighting_collection_id
        FOREIGN KEY (collection_id) REFERENCES embedfleet.collection (id) ON DELETE CASCADE
);

-- name: create_object
CREATE TABLE embedfleet.object (
    collection_id bigint NOT NULL,
    source text NOT NULL,
    version bytea,
    documents int8multirange NOT NULL,
    job_id bigint NOT NULL,
    CONSTRAINT pk_object PRIMARY KEY (collection_id, source),
    CONSTRAINT fk_object_collection_id
        FOREIGN KEY (collection_id) REFERENCES embedfleet.collection (id) ON DELETE CASCADE
);
