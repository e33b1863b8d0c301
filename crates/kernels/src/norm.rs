//! Root-mean-square and layer normalisation of rows.
