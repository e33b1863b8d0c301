//! Which runtimes a test can ask here.
#![allow(dead_code, reason = "each test uses its part of this")]

use net::network::Options;
use net::runtime::Kind;

/// Those of the build; ONNX Runtime only where its library is named.
pub(crate) fn kinds() -> Vec<Kind> {
    let has_library = std::env::var_os("ORT_DYLIB_PATH").is_some();
    Kind::built().into_iter().filter(|kind| *kind != Kind::OnnxRuntime || has_library).collect()
}

/// With this runtime, and what is usual.
pub(crate) fn options(kind: Kind) -> Options {
    Options { runtime: Some(kind), ..Options::default() }
}
