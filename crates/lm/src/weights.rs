//! The tensors of a model, by role, with their shapes checked.
