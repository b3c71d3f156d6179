"""One rate limit for the whole fleet: who may send a request, and when."""
