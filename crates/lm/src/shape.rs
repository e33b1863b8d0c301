//! What a model is, as data: everything the forward pass asks of a family.
