//! Arithmetic on slices and quantised blocks, chosen for the CPU at hand.
//!
//! Floor 1: pure: what is computed depends on the arguments alone. Only how fast depends on the machine, which is asked for its
//! instructions ([`cpu`]; `KERNELS_ISA` overrules them), its cores ([`pool`], from `/sys`) and huge pages ([`roofline`]); the
//! pool alone has a clock, to leave out threads that keep others waiting. No network, no chance. In reading order:
//!
//! - [`cpu`]: what this processor can do, as values; which path is taken;
//! - [`pool`]: threads that share a piece of work and survive the loss of a core;
//! - [`compute`]: the two together, which all that follows is given;
//! - [`format`](mod@format): how numbers lie in a file: one file per block format, each with its scalar definition;
//! - [`quantised`]: activations in int8, as the kernels want them;
//! - [`matrix`]: a weight matrix as it lies in its file;
//! - [`matmul`]: activations times a weight matrix, the work that a model is made of;
//! - [`roofline`]: how fast this machine reads its memory, the most that a multiplication can reach;
//! - [`page`]: keys and values of a run of positions;
//! - [`attention`]: queries against pages;
//! - [`norm`], [`rope`], [`softmax`], [`activation`]: the small steps between;
//! - `strip`: sixteen rows of each format side by side; `simd`: what all of them need of an instruction set, sixteen lanes; `arch`: the instruction sets themselves, the only
//!   room besides `pool` where `unsafe` stands.
//!
//! The scalar code is the definition. Every other path is compared with it.

pub mod activation;
mod arch;
pub mod attention;
pub mod compute;
pub mod cpu;
pub mod format;
mod interleave;
pub mod matmul;
pub mod matrix;
pub mod norm;
pub mod page;
pub mod pool;
pub mod quantised;
pub mod roofline;
pub mod rope;
mod simd;
pub mod softmax;
mod strip;
