//! ONNX networks: files of strangers on a kept runtime, behind one small face.
//!
//! In reading order: what a file says of itself ([`graph`], over [`protobuf`]) is checked before any runtime sees it; [`tensor`]
//! is what goes in and comes out; [`network`] is the face; [`runtime`] says which runtimes stand behind it. What a package
//! declares around a network is data: [`before`] makes tensors of pictures ([`picture`]) and numbers, [`after`] makes words, boxes
//! and vectors of tensors, [`recipe`] holds both and is checked against the network, and [`stage`] runs all of it step by step,
//! with state from one step to the next, or several steps in one run ([`batch`]). [`golden`] asks a network what a package says it must answer.
//!
//! [`specimen`] writes small graphs for tests.
//!
//! No operator is computed here. Nothing here reads a clock or the network, and no file but the library that a user names.

pub mod after;
pub mod batch;
pub mod before;
mod caught;
pub mod golden;
pub mod graph;
pub mod network;
pub mod picture;
pub mod protobuf;
pub mod recipe;
pub mod runtime;
pub mod specimen;
pub mod stage;
pub mod tensor;
