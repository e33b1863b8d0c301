//! Sentences to vectors: an encoder's states, pooled and normalised.
