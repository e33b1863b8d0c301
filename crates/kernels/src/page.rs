//! Keys and values of a run of positions, in the number format of the cache.
