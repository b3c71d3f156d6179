"""Documents in, batches out: read, validate, cut, hash, store, ring."""
