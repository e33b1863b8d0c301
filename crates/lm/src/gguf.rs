//! GGUF, the file a model comes in: metadata and tensors.
