//! How each family's metadata says what a model is: one file per family, over one forward pass.
