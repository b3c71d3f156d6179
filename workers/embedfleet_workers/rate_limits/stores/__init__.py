"""Where the rate limiter keeps its state: in Redis for a fleet, in memory for one process."""
