//! Language models from GGUF: load, then answer token by token; encoders for embeddings.
//!
//! Floor 2, over `kernels`: no network, no clock, no chance of its own (a sampler is given its seed). In reading order:
//!
//! - [`durable`]: files that a power cut leaves whole;
//! - [`gguf`]: the file: metadata and tensors, read with every count bounded, and written;
//! - [`map`]: a file as memory; the one memory map of the house;
//! - [`shape`]: what a model is, as data; [`family`]: how each family's metadata says it;
//! - [`weights`]: the tensors of a model, by role, with their shapes checked;
//! - [`rope`]: the angles of each family; [`cache`]: keys and values of one sequence;
//! - [`network`]: weights and angles together; [`forward`]: the one forward pass; [`adapter`]: LoRA beside the frozen weights;
//! - [`model`]: all of this as one value that can be asked;
//! - [`tokenizer`]: text to tokens and back, from the vocabulary in the file;
//! - [`sample`]: the next token from logits; [`signal`]: how sure the model was;
//! - [`answer`]: what a sequence writes, as text, up to its stop strings;
//! - [`prefix`]: sequences kept for the next with the same beginning;
//! - [`guess`]: what probably comes next, to be checked in one step;
//! - [`batch`]: several sequences at once through one model, a step at a time;
//! - [`chat`]: messages and tools to a prompt and back, by the model's own template;
//! - [`constraint`]: output that must follow a JSON schema, a regular expression or a grammar;
//! - [`speech`]: a model's template and words for those two, from its file;
//! - [`embed`]: sentences to vectors;
//! - [`memory`]: what a model and its cache will need;
//! - [`specimen`]: a model made from a seed, for tests and benches.

pub mod adapter;
pub mod answer;
pub mod batch;
pub mod cache;
pub mod chat;
pub mod constraint;
pub mod durable;
pub mod embed;
pub mod family;
pub mod forward;
pub mod gguf;
pub mod guess;
pub mod map;
pub mod memory;
pub mod model;
pub mod network;
pub mod prefix;
pub mod processor;
pub mod rope;
pub mod sample;
pub mod shape;
pub mod signal;
pub mod specimen;
pub mod speech;
pub mod tokenizer;
pub mod weights;
