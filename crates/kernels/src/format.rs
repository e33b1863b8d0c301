//! How numbers lie in a file: the block formats of GGUF, one file each.
