//! An ONNX file as a variant: what `net` reads of its graph, the memory it asks for, the recipe that travels with it, and its
//! golden set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lm::map::{Map, MapError};
use net::golden::{CaseError, case};
use net::graph::read;
use net::network::{LoadError, Network, Options};
use net::protobuf::WireError;
use net::recipe::{Recipe, RecipeError};
use package::contract::Contract;
use package::form::FormError;
use package::golden::{Budget, Case, Golden, Tensor};
use package::media::Role;
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
    /// What shall stand around it does not fit it.
    #[error("{}: the recipe does not fit", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<RecipeError>,
    },
    /// No runtime here takes it, so it cannot be asked for golden answers.
    #[error("{} cannot be asked for golden answers", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<LoadError>,
    },
    /// It does not answer.
    #[error("{}: golden case {at} has no answer", path.display())]
    Case {
        /// The file.
        path: PathBuf,
        /// Which, from 0.
        at: usize,
        /// Why.
        source: Box<CaseError>,
    },
}

/// What the file at `path` is as a variant, with what stands before and after it; without `name` it is called after its numbers:
/// `f32`.
pub fn facts(
    path: &Path,
    name: Option<VariantName>,
    recipe: Option<&Recipe>,
    selvedge: Version,
) -> Result<Found, OnnxError> {
    let map = Map::open(path)?;
    let bytes = map.bytes();
    let graph = read(bytes).map_err(|source| OnnxError::Wire { path: path.to_owned(), source })?;
    if let Some(recipe) = recipe {
        let fits = recipe.clone().completed(&graph.net);
        fits.map_err(|source| OnnxError::Recipe { path: path.to_owned(), source: Box::new(source) })?;
    }
    let contract = Contract::Net(graph.net);
    contract.check().map_err(|source| OnnxError::Form { path: path.to_owned(), source })?;
    let file_bytes = bytes.len() as u64;
    // The file as it is mapped, its constants once more as they are computed with, and no value's place used twice. Looks that share a
    // run have values of their own, and whoever compiles for them holds the constants once more.
    let looks = recipe.and_then(|recipe| recipe.batch).unwrap_or(1).max(1) as u64;
    let constant_bytes = graph.constant_bytes.saturating_mul(if looks > 1 { 2 } else { 1 });
    let ram_bytes = [constant_bytes, graph.value_bytes.saturating_mul(looks), BESIDE_BYTES];
    let known = Known {
        ram_bytes: ram_bytes.into_iter().fold(file_bytes, u64::saturating_add),
        bytes: file_bytes,
        parameters: Some(graph.parameters),
        precision: graph.precision.map(str::to_owned),
        family: None,
        licence: None,
    };
    let name = name.unwrap_or_else(|| called(graph.precision));
    let mut found = Found::of(path, name, &contract, known, selvedge);
    if let Some(recipe) = recipe {
        found.variant.files.push((Role::Recipe, package::form::write(recipe)));
    }
    Ok(found)
}

/// The golden set of the network at `path`: what it makes of each of these inputs here, by the runtime in this binary.
pub fn golden(path: &Path, inputs: Vec<BTreeMap<String, Tensor>>) -> Result<Golden, OnnxError> {
    let mut network = load(path)?;
    let cases = inputs.into_iter().enumerate().map(|(at, input)| {
        let failed = |source| OnnxError::Case { path: path.to_owned(), at, source: Box::new(source) };
        case(&mut network, input).map(Case::Tensors).map_err(failed)
    });
    let cases = cases.collect::<Result<_, _>>()?;
    Ok(Golden { form: 1, kind: "net".to_owned(), cases, budget: Budget::default() })
}

/// What the network at `path` answers to a golden set that somebody else made.
pub fn answers(path: &Path, golden: &Golden) -> Result<Vec<package::golden::Answer>, OnnxError> {
    let mut network = load(path)?;
    let answers = golden.cases.iter().enumerate().map(|(at, asked)| {
        let nothing = BTreeMap::new();
        let input = match asked {
            Case::Tensors(tensors) => &tensors.input,
            // The judge says that the answer has another form.
            Case::Text(_) | Case::Embedding(_) => &nothing,
        };
        let failed = |source| OnnxError::Case { path: path.to_owned(), at, source: Box::new(source) };
        net::golden::answer(&mut network, input).map(package::golden::Answer::Tensors).map_err(failed)
    });
    answers.collect()
}

fn load(path: &Path) -> Result<Network, OnnxError> {
    let map = Map::open(path)?;
    let loaded = Network::load(map.bytes(), &Options::default());
    loaded.map_err(|source| OnnxError::Load { path: path.to_owned(), source: Box::new(source) })
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
