//! A weight matrix as it lies in its file: rows of blocks.
