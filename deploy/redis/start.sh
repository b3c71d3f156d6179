#!/bin/sh
# Start Redis with the password from its secret: given on standard input, it is in no process list.
set -eu

secret="${SECRETS:-/run/secrets}/redis_password"
if [ ! -s "$secret" ]; then
    echo "$secret is missing or empty. deploy/secrets/README.md says how to make it." >&2
    exit 1
fi

exec redis-server "$@" - <<CONFIGURATION
requirepass "$(cat "$secret")"
CONFIGURATION
