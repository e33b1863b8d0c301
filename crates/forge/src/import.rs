//! A Hugging Face folder becomes a GGUF file.
