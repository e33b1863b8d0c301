//! How sure the model was of a token: log probability, margin to the second, entropy.
