//! What a model and its cache will need, before it is loaded.
