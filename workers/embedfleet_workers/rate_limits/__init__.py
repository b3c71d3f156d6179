"""One rate limiter for the whole fleet: which request may be sent, and when (GCRA)."""
