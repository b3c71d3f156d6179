"""Documents in, batches out: read, judge, cut, hash, store, ring."""
