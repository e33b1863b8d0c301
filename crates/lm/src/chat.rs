//! Messages and tools to a prompt and back, by the model's own template.
