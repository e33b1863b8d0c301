//! An ONNX file as a variant: what `net` reads of its graph, and the memory it asks for.

use std::path::{Path, PathBuf};

use lm::map::{Map, MapError};
use net::graph::read;
use net::protobuf::WireError;
use package::contract::Contract;
use package::form::FormError;
use package::name::VariantName;
use package::requirement::Version;

use crate::pack::found::{Found, Known};

/// Memory beside constants and values, in bytes.
const BESIDE_BYTES: u64 = 16 << 20;

/// A file that is no ONNX graph which can be packed.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// It cannot be read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Its bytes are no ONNX.
    #[error("{} is no ONNX file", path.display())]
    Wire {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: WireError,
    },
    /// Its names are no names.
    #[error("{}: what goes in and comes out cannot be told on", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FormError,
    },
}

/// What the file at `path` is as a variant; without `name` it is called after its numbers: `f32`.
pub fn facts(path: &Path, name: Option<VariantName>, selvedge: Version) -> Result<Found, OnnxError> {
    let map = Map::open(path)?;
    let bytes = map.bytes();
    let graph = read(bytes).map_err(|source| OnnxError::Wire { path: path.to_owned(), source })?;
    let contract = Contract::Net(graph.net);
    contract.check().map_err(|source| OnnxError::Form { path: path.to_owned(), source })?;
    let file_bytes = bytes.len() as u64;
    // The file as it is mapped, its constants once more as they are computed with, and no value's place used twice.
    let ram_bytes = [graph.constant_bytes, graph.value_bytes, BESIDE_BYTES];
    let known = Known {
        ram_bytes: ram_bytes.into_iter().fold(file_bytes, u64::saturating_add),
        bytes: file_bytes,
        parameters: Some(graph.parameters),
        precision: graph.precision.map(str::to_owned),
        family: None,
        licence: None,
    };
    let name = name.unwrap_or_else(|| called(graph.precision));
    Ok(Found::of(path, name, &contract, known, selvedge))
}

/// The name of a variant whose numbers are this.
fn called(precision: Option<&str>) -> VariantName {
    let word = match precision {
        Some("float32") => "f32",
        Some("float16") => "f16",
        Some("bfloat16") => "bf16",
        Some(word) => word,
        None => "onnx",
    };
    VariantName::new(word).expect("the words of ONNX are names")
}

#[cfg(test)]
mod tests;
