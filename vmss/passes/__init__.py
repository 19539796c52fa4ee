"""One pass over the pool, in its order."""
