//! Files with signed documents of a rollout: `{"documents": [{"signed": …, "signatures": […]}, …]}`, as the hub takes them.

use std::path::Path;

use anyhow::Context as _;
use package::disk::system::System as Disk;
use package::disk::{read_whole, write_whole};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The largest file: all documents of a plan, each signed by several.
const FILE_MAX: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    documents: Vec<Box<RawValue>>,
}

/// What the hub takes.
pub(in crate::verb) fn body(documents: &[Vec<u8>]) -> anyhow::Result<Vec<u8>> {
    let raw = |bytes: &Vec<u8>| {
        RawValue::from_string(String::from_utf8(bytes.clone())?).map_err(anyhow::Error::from)
    };
    Ok(serde_json::to_vec(&File { documents: documents.iter().map(raw).collect::<Result<_, _>>()? })?)
}

/// Reads a file of documents.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = read_whole(&Disk, path, FILE_MAX)?;
    let bytes = bytes.with_context(|| format!("there is no file {}", path.display()))?;
    let file: File = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} holds no documents that `rollout sign` wrote", path.display()))?;
    Ok(file.documents.iter().map(|document| document.get().as_bytes().to_vec()).collect())
}

/// Writes a file of documents.
pub(super) fn write(path: &Path, documents: &[Vec<u8>]) -> anyhow::Result<()> {
    write_whole(&Disk, path, &body(documents)?)?;
    Ok(())
}
