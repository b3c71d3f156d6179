"""One rate limit for a whole fleet: what worker processes make of a provider's quota.

`python -m limits` (see `make bench-limits`) starts PostgreSQL, Valkey, a provider with a quota and
four worker processes with eight slots each, and measures from the provider's own account.
"""
