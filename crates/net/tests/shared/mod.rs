//! What tests and benches share: ONNX's own cases, tensors in files, recipes, the runtimes here, and where data of others lies.

pub(crate) mod cases;
pub(crate) mod data;
pub(crate) mod proto;
pub(crate) mod recipes;
pub(crate) mod runtimes;
