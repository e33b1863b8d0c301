//! The weights of a folder: safetensors files, one or in shards, mapped into memory.
//!
//! Stands below `import`. The form is a length, a JSON table of names, types, shapes and ranges, and the numbers. Always:
//! ranges lie inside their file and have the length of their shape; the numbers stay in the map until they are used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Deserialize;

use lm::map::{Map, MapError};

use super::folder::{Folder, FolderError};

/// The longest table that is read; the official reader has the same limit.
const TABLE_MAX_BYTES: u64 = 100_000_000;

/// Weights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// See [`FolderError`].
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The file cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Weights in another form.
    #[error(
        "the folder has its weights only as {found}, which is not supported because it can hold programs: save the model again as safetensors"
    )]
    Pickled {
        /// Which file.
        found: String,
    },
    /// No weights at all.
    #[error("the folder has no model.safetensors, nor shards of it")]
    None,
    /// A file without a whole table.
    #[error("{} is not a safetensors file, or was cut short", path.display())]
    NotSafetensors {
        /// Which file.
        path: PathBuf,
    },
    /// A table that is no JSON of the right form.
    #[error("the table of {} cannot be understood", path.display())]
    Table {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A range that is not in the file, or not as long as the shape wants.
    #[error("the tensor {name:?} of {} has a range that does not fit its shape or its file", path.display())]
    Range {
        /// Which tensor.
        name: String,
        /// Which file.
        path: PathBuf,
    },
    /// A name in two files.
    #[error("the tensor {name:?} is there twice")]
    Duplicate {
        /// Which tensor.
        name: String,
    },
    /// What the index promises is in no shard.
    #[error("the index names the tensor {name:?}, which is in no shard: the download is incomplete")]
    NotInAnyShard {
        /// Which tensor.
        name: String,
    },
}

/// How the numbers of a tensor are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dtype {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    F16,
    /// 2 bytes.
    Bf16,
    /// One that we do not compute, by its name.
    Other(String),
}

impl Dtype {
    fn named(name: &str) -> Dtype {
        match name {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            other => Dtype::Other(other.chars().take(20).collect()),
        }
    }

    /// Bytes of a number; `None` for types we do not compute.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::Bf16 => Some(2),
            Dtype::Other(_) => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::Other(name) => name,
        })
    }
}

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub struct Source {
    /// `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// How its numbers are written.
    pub dtype: Dtype,
    /// Rows first, columns last: the reverse of GGUF.
    pub shape: Vec<u64>,
    /// Its numbers, in the map.
    pub bytes: Bytes,
}

/// All tensors of a folder: shard after shard, each in the order of names.
pub struct Weights {
    /// See [`Source`].
    pub tensors: Vec<Source>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Weights {
    /// Finds and maps the weights of a folder.
    pub fn open(folder: &Folder) -> Result<Weights, WeightsError> {
        let index: Option<Index> = folder.json("model.safetensors.index.json")?;
        let files = match &index {
            Some(index) => index.weight_map.values().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
            None => unlisted(folder)?,
        };
        let mut tensors = Vec::new();
        let mut names = BTreeSet::new();
        for file in files {
            for source in read(folder.path_of(&file)?)? {
                if !names.insert(source.name.clone()) {
                    return Err(WeightsError::Duplicate { name: source.name });
                }
                tensors.push(source);
            }
        }
        let promised = index.map(|index| index.weight_map.into_keys()).into_iter().flatten();
        match promised.into_iter().find(|name| !names.contains(name)) {
            Some(name) => Err(WeightsError::NotInAnyShard { name }),
            None => Ok(Weights { tensors }),
        }
    }
}

/// The files of a folder without an index.
fn unlisted(folder: &Folder) -> Result<Vec<String>, WeightsError> {
    let mut files = folder.files()?;
    let pickled = files.iter().find(|name| name.ends_with(".bin") || name.ends_with(".pth")).cloned();
    files.retain(|name| name.starts_with("model") && name.ends_with(".safetensors"));
    match (files.is_empty(), pickled) {
        (false, _) => Ok(files),
        (true, Some(found)) => Err(WeightsError::Pickled { found }),
        (true, None) => Err(WeightsError::None),
    }
}

fn read(path: PathBuf) -> Result<Vec<Source>, WeightsError> {
    let whole = Map::open(&path)?.bytes().clone();
    parse(&whole, path)
}

/// Reads the table of one file. `path` is what errors call it.
pub fn parse(whole: &Bytes, path: PathBuf) -> Result<Vec<Source>, WeightsError> {
    let table = || {
        let (length, rest) = whole.split_first_chunk::<8>()?;
        let length = u64::from_le_bytes(*length);
        let length = usize::try_from(length.min(TABLE_MAX_BYTES + 1)).ok()?;
        rest.get(..length).filter(|table| table.len() as u64 <= TABLE_MAX_BYTES)
    };
    let Some(table) = table() else {
        return Err(WeightsError::NotSafetensors { path });
    };
    let entries: BTreeMap<String, serde_json::Value> = match serde_json::from_slice(table) {
        Ok(entries) => entries,
        Err(source) => return Err(WeightsError::Table { path, source }),
    };
    let data = whole.slice(8 + table.len()..);
    let mut sources = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry = match serde_json::from_value(entry) {
            Ok(entry) => entry,
            Err(source) => return Err(WeightsError::Table { path, source }),
        };
        let dtype = Dtype::named(&entry.dtype);
        let Some(bytes) = range(&data, &entry, &dtype) else {
            return Err(WeightsError::Range { name, path });
        };
        sources.push(Source { name, dtype, shape: entry.shape, bytes });
    }
    Ok(sources)
}

fn range(data: &Bytes, entry: &Entry, dtype: &Dtype) -> Option<Bytes> {
    let (start, end) = entry.data_offsets;
    let (from, to) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    if from > to || to > data.len() {
        return None;
    }
    let numbers = entry.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim))?;
    let fits = match dtype.bytes() {
        Some(bytes) => numbers.checked_mul(bytes)? == end - start,
        None => true,
    };
    fits.then(|| data.slice(from..to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(table: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (table.len() as u64).to_le_bytes().to_vec();
        bytes.extend(table.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn opened(files: &[(&str, Vec<u8>)]) -> Result<Weights, WeightsError> {
        let place = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(place.path().join(name), content).unwrap();
        }
        Weights::open(&Folder::open(place.path()).unwrap())
    }

    #[test]
    fn tensors_are_found_in_one_file_or_in_shards() {
        let table = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"a":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}"#;
        let one = opened(&[("model.safetensors", file(table, &[7; 10]))]).unwrap();
        let names: Vec<&str> = one.tensors.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((one.tensors[1].bytes.len(), &one.tensors[0].dtype), (8, &Dtype::Bf16));

        let index = br#"{"weight_map":{"a":"model-2.safetensors","b":"model-2.safetensors"}}"#.to_vec();
        let both = [("model-2.safetensors", file(table, &[7; 10])), ("model.safetensors.index.json", index)];
        assert_eq!(opened(&both).unwrap().tensors.len(), 2);
    }

    #[test]
    fn broken_weights_are_refused() {
        let entry = |shape: &str, from: u64, to: u64| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
        };
        let whole = file(&entry("[2]", 0, 8), &[0; 8]);
        for length in 0..whole.len() {
            assert!(opened(&[("model.safetensors", whole[..length].to_vec())]).is_err(), "cut at {length}");
        }
        let ranges = [
            entry("[2]", 0, 4),
            entry("[2]", 8, 0),
            entry("[2]", 4, 12),
            entry("[4611686018427387904,4]", 0, 8),
            entry("[2]", u64::MAX, u64::MAX),
        ];
        for table in ranges {
            let opened = opened(&[("model.safetensors", file(&table, &[0; 8]))]);
            assert!(matches!(opened, Err(WeightsError::Range { .. })), "{table}");
        }
        let huge = u64::MAX.to_le_bytes().to_vec();
        assert!(matches!(opened(&[("model.safetensors", huge)]), Err(WeightsError::NotSafetensors { .. })));
        assert!(matches!(opened(&[]), Err(WeightsError::None)));
        let pickled = opened(&[("pytorch_model.bin", vec![0x80])]);
        assert!(matches!(pickled, Err(WeightsError::Pickled { .. })));
        let index = |file: &str| format!(r#"{{"weight_map":{{"z":"{file}"}}}}"#).into_bytes();
        let outside = opened(&[("model.safetensors.index.json", index("../x.safetensors"))]);
        assert!(matches!(outside, Err(WeightsError::Folder(FolderError::Outside { .. }))));
        let absent =
            [("model.safetensors", whole), ("model.safetensors.index.json", index("model.safetensors"))];
        assert!(matches!(opened(&absent), Err(WeightsError::NotInAnyShard { .. })));
    }
}
