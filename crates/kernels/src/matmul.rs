//! Activations times a weight matrix: the work that a model is made of.
