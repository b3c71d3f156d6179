-- Run once by the image, as the superuser, when the data volume is empty.
-- The workers' role owns the database and is no superuser, so pgvector is created here.
\set password `cat /run/secrets/database_password`

SELECT :'password' = '' AS password_is_missing \gset
\if :password_is_missing
    DO $$ BEGIN RAISE EXCEPTION 'database_password is empty: see deploy/secrets/README.md'; END $$;
\endif

CREATE ROLE embedfleet LOGIN PASSWORD :'password';
ALTER DATABASE embedfleet OWNER TO embedfleet;
CREATE EXTENSION vector;
