-- name: create_webhook
CREATE TABLE embedfleet.webhook (
    job_id bigint CONSTRAINT pk_webhook PRIMARY KEY
        CONSTRAINT fk_webhook_job_id REFERENCES embedfleet.job (id) ON DELETE CASCADE,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    url text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    failed_at timestamptz,
    reason text,
    CONSTRAINT ck_webhook_url CHECK (octet_length(url) <= 2048),
    CONSTRAINT ck_webhook_end CHECK (delivered_at IS NULL OR failed_at IS NULL)
);

-- name: index_open
CREATE INDEX ix_webhook_open ON embedfleet.webhook (due_at)
WHERE delivered_at IS NULL AND failed_at IS NULL;
