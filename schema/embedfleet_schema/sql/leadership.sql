-- name: try
SELECT pg_try_advisory_xact_lock(%(space)s, %(lock)s) AS mine,
    set_config('idle_in_transaction_session_timeout', '0', true);
