//! LoRA: a low-rank correction beside frozen weights, from a GGUF adapter file.
