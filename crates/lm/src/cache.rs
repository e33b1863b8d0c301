//! Keys and values of one sequence, in pages that sequences may share.
