//! What a GGUF file with a language model says of itself, as a variant of a package: what it asks of a device, and what catalogues want to know.
//!
//! Read from metadata and the table of tensors; nothing is loaded. Memory is `lm`'s own reckoning, the same by which
//! `selvedge fit` judges a file.

use std::path::{Path, PathBuf};

use kernels::page::{CacheFormat, PageError};
use lm::family::{self, keys::ShapeError};
use lm::gguf::{Gguf, GgufError};
use lm::memory::Needed;
use lm::model::Facts;
use package::config::{Capabilities, Modality, Shape, param_size};
use package::name::VariantName;
use package::requirement::{Kind, Requires, Runtime, Version};

use crate::pack::found::Found;
use crate::pack::{Variant, filepath_of};

/// A file that cannot become a variant.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// It is no GGUF.
    #[error("{} cannot be opened as a model", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<GgufError>,
    },
    /// Its shape.
    #[error("{} is no model that runs here", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ShapeError,
    },
    /// Its cache.
    #[error("{}: the memory that it takes cannot be reckoned", path.display())]
    Page {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PageError,
    },
    /// Its context.
    #[error("{} was trained for {trained} tokens, not for {wanted}: take a shorter --context", path.display())]
    Context {
        /// The file.
        path: PathBuf,
        /// Tokens that it was trained for.
        trained: usize,
        /// Tokens that were asked for.
        wanted: usize,
    },
}

/// The context that memory is reckoned with where nobody says otherwise: that of `selvedge fit`.
const CONTEXT: usize = 2_048;

/// What the file at `path` is as a variant called `name`, for a context of `context` tokens; without it 2048, or what it was
/// trained for if that is less.
pub fn facts(
    path: &Path,
    name: VariantName,
    context: Option<usize>,
    selvedge: Version,
) -> Result<Found, FactsError> {
    let at = || path.to_owned();
    let file = Gguf::open(path).map_err(|error| FactsError::File { path: at(), source: Box::new(error) })?;
    let shape = family::shape(file.metadata()).map_err(|source| FactsError::Shape { path: at(), source })?;
    let trained = shape.context.max(1);
    if let Some(wanted) = context.filter(|wanted| *wanted > trained) {
        return Err(FactsError::Context { path: at(), trained, wanted });
    }
    let context = context.unwrap_or(CONTEXT).min(trained);
    let needed = Needed::reckon(&file, &shape, context, CacheFormat::F16);
    let needed = needed.map_err(|source| FactsError::Page { path: at(), source })?;
    let facts = Facts::of(&file);
    let writes = shape.pooling.is_none();
    let output = if writes { Modality::Text } else { Modality::Embedding };
    let variant = Variant {
        name,
        weights: path.to_owned(),
        filepath: filepath_of(path),
        kind: Kind::Lm,
        runtime: Runtime::Lm,
        requires: Requires {
            ram_bytes: needed.total(),
            disk_bytes: 0,
            isa: Vec::new(), // our engine has a path in plain Rust for every format
            accelerator: None,
            selvedge,
            context: Some(context as u64),
        },
        quality: None,
        latency: Vec::new(),
        energy: Vec::new(),
        shape: Shape {
            architecture: Some("transformer".to_owned()),
            format: Some("gguf".to_owned()),
            param_size: Some(param_size(facts.parameters)),
            precision: precision(&facts.quantisation).map(str::to_owned),
            quantization: Some(facts.quantisation.clone()),
            capabilities: Some(Capabilities {
                input_types: vec![Modality::Text],
                output_types: vec![output],
                ..Capabilities::default()
            }),
        },
        family: Some(facts.family.clone()).filter(|family| !family.is_empty()),
        inputs: vec!["text".to_owned()],
        outputs: vec![if writes { "text" } else { "embedding" }.to_owned()],
        base: None,
        golden: None,
        files: Vec::new(),
    };
    let task = if writes { "text-generation" } else { "text-embedding" };
    Ok(Found { variant, licence: facts.licence, bytes: facts.bytes, task })
}

/// The word of ModelPack for numbers that stand alone; blocks that share a scale have none.
fn precision(quantisation: &str) -> Option<&'static str> {
    match quantisation {
        "F32" => Some("float32"),
        "F16" => Some("float16"),
        "BF16" => Some("bfloat16"),
        _ => None,
    }
}

/// The name of a variant whose file has this quantisation: `q4_k_m`.
pub fn name_of(quantisation: &str) -> Option<VariantName> {
    VariantName::new(&quantisation.to_lowercase()).ok()
}

#[cfg(test)]
mod tests {
    use lm::specimen::Specimen;

    use super::*;

    #[test]
    fn a_file_tells_what_it_asks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.gguf");
        Specimen::SMALL.write(&mut std::fs::File::create(&path).unwrap()).unwrap();
        let version = Version(0, 1, 0);
        let of = |context| facts(&path, VariantName::new("q4_0").unwrap(), context, version);
        let found = of(None).unwrap();
        assert_eq!(found.variant.requires.context, Some(512), "no longer than it was trained for");
        assert!(found.variant.requires.ram_bytes > found.bytes / 2);
        assert!(of(Some(64)).unwrap().variant.requires.ram_bytes < found.variant.requires.ram_bytes);
        assert!(
            found.task == "text-generation"
                && found.variant.golden.is_none()
                && found.variant.quality.is_none()
        );
        assert!(matches!(of(Some(513)), Err(FactsError::Context { trained: 512, wanted: 513, .. })));
        std::fs::write(&path, b"none").unwrap();
        assert!(matches!(of(None), Err(FactsError::File { .. })));
        assert_eq!(name_of("Q4_K_M").unwrap().as_str(), "q4_k_m");
        assert_eq!(precision("Q4_K"), None);
    }
}
