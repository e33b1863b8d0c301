//! What a LoRA adapter in GGUF says of itself: the family that it is for, its rank, the tensors that it corrects.
//!
//! Read from metadata and the table of tensors, in the form that `lm::adapter` loads; whether each correction fits a model
//! is seen when the two meet.

use std::path::{Path, PathBuf};

use lm::gguf::metadata::MetadataError;
use lm::gguf::{Gguf, GgufError};
use lm::model::Facts;
use package::contract::{Adapter, Contract, NAME_MAX_BYTES};
use package::digest::Digest;
use package::form::FormError;
use package::name::VariantName;
use package::requirement::Version;

use crate::pack::found::{Found, Known};

/// Memory beside an adapter's numbers, in bytes: names and tables.
const BESIDE_BYTES: u64 = 1 << 20;

/// A file that is no adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// It is no GGUF.
    #[error("{} cannot be opened as an adapter", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<GgufError>,
    },
    /// It does not say what it is.
    #[error("{} does not say what kind of adapter it is", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is missing.
        source: MetadataError,
    },
    /// Something else than low-rank corrections.
    #[error("{} says that it is {found:?}, which is no LoRA adapter", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        found: String,
    },
    /// A half without the other, or two that do not fit.
    #[error("{}: the correction `{name}` {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Which tensor.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Names that no contract takes.
    #[error("{}: what it says of itself cannot be told on", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FormError,
    },
}

/// What the adapter at `path` is as a variant called `name`, for the base whose manifest is `base`, if that is known.
pub fn facts(
    path: &Path,
    name: VariantName,
    base: Option<Digest>,
    selvedge: Version,
) -> Result<Found, AdapterError> {
    let at = || path.to_owned();
    let file =
        Gguf::open(path).map_err(|error| AdapterError::File { path: at(), source: Box::new(error) })?;
    let metadata = file.metadata();
    let missing = |source| AdapterError::Metadata { path: at(), source };
    let kind = metadata.string("general.type").unwrap_or("model");
    let form = if kind == "adapter" { metadata.string("adapter.type").map_err(missing)? } else { "" };
    if (kind, form) != ("adapter", "lora") {
        let found = format!("{kind} {form}").trim_end().chars().take(80).collect();
        return Err(AdapterError::Other { path: at(), found });
    }
    let architecture = metadata.string("general.architecture").map_err(missing)?.to_owned();
    let alpha = metadata.f32("adapter.lora.alpha").map_err(missing)?;
    let (mut rank, mut tensors) = (0, 0);
    for tensor in file.tensors() {
        let wrong = |why| AdapterError::Wrong { path: at(), name: tensor.name.clone(), why };
        let Some(stem) = tensor.name.strip_suffix(".lora_a") else {
            let stem = tensor.name.strip_suffix(".lora_b").ok_or_else(|| wrong("is not of low rank"))?;
            file.tensor(&format!("{stem}.lora_a")).ok_or_else(|| wrong("has no .lora_a"))?;
            continue;
        };
        let up = file.tensor(&format!("{stem}.lora_b")).ok_or_else(|| wrong("has no .lora_b"))?;
        let own = tensor.dims.get(1).copied().unwrap_or(1);
        if up.dims.first() != Some(&own) {
            return Err(wrong("has halves of two ranks"));
        }
        (rank, tensors) = (own.max(rank), tensors + 1);
    }
    let facts = Facts::of(&file);
    let named = ["general.base_model.0.repo_url", "general.base_model.0.name"];
    let named = named.iter().find_map(|key| metadata.string(key).ok());
    let contract = Contract::Adapter(Adapter {
        architecture: architecture.clone(),
        base: named.filter(|name| name.len() <= NAME_MAX_BYTES).map(str::to_owned),
        rank,
        alpha,
        tensors,
    });
    contract.check().map_err(|source| AdapterError::Form { path: at(), source })?;
    let known = Known {
        ram_bytes: facts.bytes.saturating_add(BESIDE_BYTES),
        bytes: facts.bytes,
        parameters: Some(facts.parameters),
        precision: None,
        family: Some(architecture),
        licence: facts.licence,
    };
    let mut found = Found::of(path, name, &contract, known, selvedge);
    found.variant.base = base;
    found.variant.shape.quantization = Some(facts.quantisation);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use kernels::format::Format;
    use lm::gguf::metadata::Metadata;
    use lm::gguf::write::Writer;
    use package::media::Role;
    use package::requirement::Kind;

    use super::*;
    use crate::pack::found::kind_of;

    /// Writes an adapter with these tensors of zeros.
    fn write(path: &Path, kind: &str, tensors: &[(&str, [u64; 2])]) {
        let mut metadata = Metadata::new();
        metadata.set("general.type", kind);
        metadata.set("general.architecture", "llama");
        metadata.set("general.base_model.0.name", "SmolLM2 135M");
        metadata.set("adapter.type", "lora");
        metadata.set("adapter.lora.alpha", 8.0f32);
        let mut writer = Writer::new(metadata).unwrap();
        for (name, dims) in tensors {
            writer.tensor(name, dims, Format::F32).unwrap();
        }
        let mut zeros = |tensor: &lm::gguf::tensor::Tensor, sink: &mut dyn std::io::Write| {
            Ok(sink.write_all(&vec![0; 4 * tensor.len() as usize])?)
        };
        writer.write(path, &mut zeros).unwrap();
    }

    #[test]
    fn an_adapter_says_what_it_corrects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lora.gguf");
        let of =
            || facts(&path, VariantName::new("lora").unwrap(), Some(Digest::of(b"base")), Version(0, 1, 0));
        let (a, b) = ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b");
        write(&path, "adapter", &[(a, [64, 4]), (b, [4, 64])]);
        assert_eq!(kind_of(&path).unwrap(), Kind::Adapter);
        let Found { variant, bytes, .. } = of().unwrap();
        assert_eq!((&variant.kind, variant.base), (&Kind::Adapter, Some(Digest::of(b"base"))));
        assert!(variant.requires.ram_bytes > bytes && bytes > 2 * 4 * 64 * 4);
        let (role, contract) = &variant.files[0];
        let said = Contract::parse(contract).unwrap().to_string();
        assert_eq!(*role, Role::Input);
        assert_eq!(said, "LoRA of rank 4 on 1 tensors of llama models, for SmolLM2 135M");
        let refused = |expected: &str| {
            let error = of().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        write(&path, "adapter", &[(a, [64, 4])]);
        refused("has no .lora_b");
        write(&path, "adapter", &[(b, [4, 64])]);
        refused("has no .lora_a");
        write(&path, "adapter", &[(a, [64, 4]), (b, [8, 64])]);
        refused("two ranks");
        write(&path, "adapter", &[("blk.0.attn_q.weight", [64, 4])]);
        refused("not of low rank");
        write(&path, "model", &[]);
        assert_eq!(kind_of(&path).unwrap(), Kind::Lm);
        refused("says that it is \"model\", which is no LoRA adapter");
        std::fs::write(&path, "GGUF").unwrap();
        assert!(matches!(of(), Err(AdapterError::File { .. })));
    }
}
