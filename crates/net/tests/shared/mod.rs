//! What tests and benches share: ONNX's own cases, and tensors in files.

pub(crate) mod cases;
pub(crate) mod proto;
