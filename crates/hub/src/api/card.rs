//! What the files of a variant say of it: the golden set's questions, the bill of materials. Written by strangers, so what
//! cannot be read is absent.

use bytes::Bytes;
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::form::DOCUMENT_MAX_BYTES;
use package::golden::Golden;
use package::manifest::Manifest;
use package::media::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::refusal::Refusal;
use crate::depot::{DepotError, Key};
use crate::state::HubState;

/// The most parts of a bill that are shown.
const PARTS_MAX: usize = 1000;

/// A file of a variant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FileItem {
    /// What it is there for: `weights`, `golden`, `bom`, `card`, …; absent where nobody says.
    pub role: Option<String>,
    /// Its path.
    pub path: Option<String>,
    /// Its digest: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
}

/// Questions with answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GoldenItem {
    /// The digest of the set.
    pub digest: String,
    /// How many questions.
    pub cases: usize,
    /// How long loading may take at most.
    pub load_ms: Option<f64>,
    /// 95 of 100 tokens or windows may take at most this.
    pub p95_ms: Option<f64>,
    /// Memory that the process may take at most.
    pub rss_bytes: Option<u64>,
}

/// A bill of materials, as CycloneDX has it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BomItem {
    /// The digest of the bill.
    pub digest: String,
    /// CycloneDX's version.
    pub version: String,
    /// What it is a bill of.
    pub name: Option<String>,
    /// The licences of that.
    pub licences: Vec<String>,
    /// What it is made of, at most 1000 of them.
    pub parts: Vec<BomPart>,
}

/// A part of something.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BomPart {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// Its SHA-256, where the bill says it.
    pub sha256: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Card {
    /// The files that the manifest names.
    pub files: Vec<FileItem>,
    /// See [`GoldenItem`].
    pub golden: Option<GoldenItem>,
    /// See [`BomItem`].
    pub bom: Option<BomItem>,
}

/// Reads the card of the variant with this manifest.
pub async fn read(state: &HubState, manifest: &Digest) -> Result<Card, Refusal> {
    let bytes = state.depot.read(&Key::blob(manifest), DOCUMENT_MAX_BYTES as u64).await?;
    let Some(manifest) = bytes.and_then(|bytes| Manifest::parse(&bytes).ok()) else {
        return Ok(Card::default());
    };
    let file = |layer: &Descriptor| FileItem {
        role: layer.role().map(|role| role.word().to_owned()),
        path: layer.filepath().map(str::to_owned),
        digest: layer.digest.to_string(),
        size: layer.size,
    };
    let mut card = Card { files: manifest.layers.iter().map(file).collect(), ..Card::default() };
    if let Some((digest, bytes)) = document(state, &manifest, Role::Golden).await? {
        card.golden = Golden::parse(&bytes).ok().map(|set| GoldenItem {
            digest,
            cases: set.cases.len(),
            load_ms: set.budget.load_ms,
            p95_ms: set.budget.p95_ms,
            rss_bytes: set.budget.rss_bytes,
        });
    }
    if let Some((digest, bytes)) = document(state, &manifest, Role::Bom).await? {
        card.bom = bom(digest, &bytes);
    }
    Ok(card)
}

/// A small file of a variant, if it is here.
async fn document(
    state: &HubState,
    manifest: &Manifest,
    role: Role,
) -> Result<Option<(String, Bytes)>, Refusal> {
    let Some(layer) = manifest.layer(role) else { return Ok(None) };
    match state.depot.read(&Key::blob(&layer.digest), DOCUMENT_MAX_BYTES as u64).await {
        Ok(bytes) => Ok(bytes.map(|bytes| (layer.digest.to_string(), bytes))),
        Err(DepotError::TooLong { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As much of CycloneDX as is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bill {
    bom_format: String,
    spec_version: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize, Default)]
struct Metadata {
    component: Option<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    version: Option<String>,
    #[serde(default)]
    hashes: Vec<Hashed>,
    #[serde(default)]
    licenses: Vec<Value>,
}

#[derive(Deserialize)]
struct Hashed {
    alg: String,
    content: String,
}

fn bom(digest: String, bytes: &[u8]) -> Option<BomItem> {
    let bill: Bill =
        serde_json::from_slice(bytes).ok().filter(|bill: &Bill| bill.bom_format == "CycloneDX")?;
    let part = |it: Component| {
        let sha256 = it.hashes.into_iter().find(|hash| hash.alg == "SHA-256").map(|hash| hash.content);
        BomPart { name: it.name, version: it.version, sha256 }
    };
    let whole = bill.metadata.component;
    let licences = whole.iter().flat_map(|it| &it.licenses).filter_map(licence).map(str::to_owned).collect();
    let parts = bill.components.into_iter().take(PARTS_MAX).map(part).collect();
    Some(BomItem { digest, version: bill.spec_version, name: whole.map(|it| it.name), licences, parts })
}

/// An id that SPDX lists, a name, or an expression.
fn licence(entry: &Value) -> Option<&str> {
    let named = entry.get("license").and_then(|it| it.get("id").or_else(|| it.get("name")));
    named.or_else(|| entry.get("expression"))?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_says_what_it_is_made_of() {
        let text = br#"{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,
            "metadata":{"component":{"name":"smollm2 q4","licenses":[{"license":{"id":"MIT"}},{"expression":"A OR B"}]}},
            "components":[{"name":"model.gguf","hashes":[{"alg":"SHA-256","content":"00"}]},{"name":"x","version":"2"}]}"#;
        let bill = bom("sha256:1".into(), text).unwrap();
        assert_eq!((bill.name.as_deref(), bill.version.as_str()), (Some("smollm2 q4"), "1.6"));
        assert_eq!(bill.licences, ["MIT", "A OR B"]);
        assert_eq!(bill.parts[0].sha256.as_deref(), Some("00"));
        assert_eq!((bill.parts[1].version.as_deref(), bill.parts.len()), (Some("2"), 2));
        assert_eq!(bom(String::new(), b"{}"), None);
        assert_eq!(bom(String::new(), br#"{"bomFormat":"SPDX","specVersion":"1"}"#), None);
    }
}
