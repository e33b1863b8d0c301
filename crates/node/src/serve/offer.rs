//! The models that a server may load: those of the node's slots, and beside them files named one by one, or all that is on
//! the shelf. A slot's model wins over another of its name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use package::disk::system::System;
use package::name;
use package::store::Store;
use serde_json::{Value, json};
use wire::world::WallMs;

use crate::install::state::Slot;
use crate::shelf::facts::Facts;
use crate::shelf::name::ModelName;
use crate::shelf::{Entry, Shelf, ShelfError, State};

/// A model that may be loaded.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What requests call it.
    pub name: String,
    /// Where it is loaded from.
    pub weights: Weights,
    /// What names its bytes: SHA-256 of the file in hexadecimal, where somebody has reckoned it; of a slot the digest of its
    /// manifest, `sha256:…`.
    pub digest: Option<String>,
    /// When it came here.
    pub added_ms: Option<WallMs>,
    /// It answers for a larger variant of its release, since memory is short.
    pub is_spare: bool,
}

/// Where a model is loaded from.
#[derive(Debug, Clone)]
pub enum Weights {
    /// A GGUF file, as it stands.
    File(PathBuf),
    /// A variant of a release, checked as it is loaded.
    Slot {
        /// Which.
        slot: Box<Slot>,
        /// What has its blobs.
        store: Arc<Store<System>>,
        /// The data folder with what opens them, if they are sealed.
        keys: Option<PathBuf>,
    },
}

impl Weights {
    /// The file, for people.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Weights::File(path) => path.clone(),
            Weights::Slot { slot, store, .. } => store.blob_path(&slot.weights),
        }
    }

    /// The slot, if they are a slot's.
    pub(super) fn slot(&self) -> Option<&Slot> {
        match self {
            Weights::File(_) => None,
            Weights::Slot { slot, .. } => Some(slot),
        }
    }
}

impl Offer {
    /// A file, under the name that its file's name makes, in lower case.
    pub fn of_file(file: &Path) -> Offer {
        let stem = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = ModelName::of_file(&stem).as_str().to_owned();
        let weights = Weights::File(file.to_path_buf());
        Offer { name, weights, digest: None, added_ms: None, is_spare: false }
    }

    /// A model of the shelf.
    pub fn of_shelf(entry: Entry) -> Offer {
        let Facts { name, sha256, added_ms, .. } = entry.facts;
        let digest = sha256.map(|hash| hash.to_string());
        let (name, weights) = (name.as_str().to_owned(), Weights::File(entry.path));
        Offer { name, weights, digest, added_ms: Some(added_ms), is_spare: false }
    }

    /// What a model's slots let serve, from `store`, opened with what lies in `keys`.
    pub(super) fn of_slot(
        model: &name::ModelName,
        slot: &Slot,
        store: &Arc<Store<System>>,
        keys: Option<&Path>,
    ) -> Offer {
        let keys = keys.map(Path::to_owned);
        let weights = Weights::Slot { slot: Box::new(slot.clone()), store: Arc::clone(store), keys };
        let (digest, added_ms) = (Some(slot.manifest.to_string()), slot.committed_ms);
        Offer { name: model.to_string(), weights, digest, added_ms, is_spare: false }
    }

    /// Tells which variant of which release it is, and whether that answers for a larger one, if it is a slot's.
    pub(super) fn name_slot(&self, told: &mut Value) {
        if let Some(slot) = self.weights.slot() {
            told["release"] = json!(slot.release);
            told["variant"] = json!(slot.variant);
        }
        if self.is_spare {
            told["spare"] = json!(true);
        }
    }

    /// Whether a request for `wanted` means it.
    fn is_called(&self, wanted: &str) -> bool {
        self.name.eq_ignore_ascii_case(wanted)
    }
}

/// All models that a server may load.
#[derive(Debug, Clone)]
pub enum Offers {
    /// These.
    Listed(Vec<Offer>),
    /// What is on the shelf when it is asked for, so that a model that comes later is there too.
    Shelf(Shelf),
}

/// Why there is no such model.
#[derive(Debug, thiserror::Error)]
pub(super) enum OfferError {
    /// Nothing has this name.
    #[error("there is no model {wanted:?} here{}", listed(there))]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// The shelf says so.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// It is on the shelf, and its file is not what it was.
    #[error("the file of the model {name:?} {}", match state { State::Missing => "is gone", _ => "has changed since it was added; add it again" })]
    Damaged {
        /// The model.
        name: String,
        /// What became of its file.
        state: State,
    },
}

/// Names that an error lists at most.
const LISTED_MAX: usize = 20;

fn listed(there: &[String]) -> String {
    if there.is_empty() {
        return "; there is none at all: `selvedge pull` brings one".to_owned();
    }
    let more = if there.len() > LISTED_MAX { ", …" } else { "" };
    format!(
        "; there {} {}{more}",
        if there.len() == 1 { "is" } else { "are" },
        there[..there.len().min(LISTED_MAX)].join(", ")
    )
}

impl Offers {
    /// All of them, after the node's own.
    pub(super) fn list(&self, own: &[Offer]) -> Result<Vec<Offer>, ShelfError> {
        let mut others = match self {
            Offers::Listed(offers) => offers.clone(),
            Offers::Shelf(shelf) => {
                let ready = shelf.list()?.models.into_iter().filter(|entry| entry.state == State::Ready);
                ready.map(Offer::of_shelf).collect()
            }
        };
        others.retain(|other| !own.iter().any(|own| own.is_called(&other.name)));
        Ok([own, &others].concat())
    }

    /// The one that a request means, of these and the node's own. An empty name means the only one there is.
    pub(super) fn find(&self, own: &[Offer], wanted: &str) -> Result<Offer, OfferError> {
        let missing = |offers: &[Offer]| {
            let there = offers.iter().map(|offer| offer.name.clone()).collect();
            // A name is bounded by the body alone, and a message needs but its beginning.
            OfferError::NotFound { wanted: wanted.chars().take(200).collect(), there }
        };
        if let Some(own) = own.iter().find(|own| own.is_called(wanted)) {
            return Ok(own.clone());
        }
        if let (Offers::Shelf(shelf), false) = (self, wanted.is_empty()) {
            return match shelf.find(wanted) {
                Ok(Entry { state: state @ (State::Missing | State::Changed), facts, .. }) => {
                    Err(OfferError::Damaged { name: facts.name.to_string(), state })
                }
                Ok(entry) => Ok(Offer::of_shelf(entry)),
                Err(ShelfError::NotFound { near, .. }) if near.is_empty() => Err(missing(&self.list(own)?)),
                Err(error) => Err(error.into()),
            };
        }
        let offers = self.list(own)?;
        let found = match (&offers[..], wanted) {
            ([only], "") => Some(only),
            _ => offers.iter().find(|offer| offer.is_called(wanted)),
        };
        found.cloned().ok_or_else(|| missing(&offers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_finds_its_model_and_no_name_the_only_one() {
        let offer = |file: &str| Offer::of_file(Path::new(file));
        let two = Offers::Listed(vec![offer("/a/Tiny-F16.gguf"), offer("/b/small.gguf")]);
        let names: Vec<String> = two.list(&[]).unwrap().into_iter().map(|offer| offer.name).collect();
        let found = two.find(&[], &names[0].to_uppercase()).unwrap();
        assert_eq!(found.weights.path(), Path::new("/a/Tiny-F16.gguf"));
        let error = two.find(&[], "gpt-4").unwrap_err().to_string();
        assert_eq!(error, format!("there is no model \"gpt-4\" here; there are {}, {}", names[0], names[1]));
        assert!(two.find(&[], "").is_err());
        let one = Offers::Listed(vec![offer("/b/small.gguf")]);
        assert_eq!(one.find(&[], "").unwrap().name, "small");
        let none = Offers::Listed(Vec::new());
        assert!(none.find(&[], "x").unwrap_err().to_string().contains("selvedge pull"));
    }

    #[test]
    fn the_nodes_own_model_wins_over_another_of_its_name() {
        let offer = |file: &str| Offer::of_file(Path::new(file));
        let (own, others) = ([offer("/own/small.gguf")], Offers::Listed(vec![offer("/b/small.gguf")]));
        assert_eq!(others.find(&own, "SMALL").unwrap().weights.path(), Path::new("/own/small.gguf"));
        assert_eq!(others.find(&own, "").unwrap().weights.path(), Path::new("/own/small.gguf"));
        assert_eq!(others.list(&own).unwrap().len(), 1);
        let others = Offers::Listed(vec![offer("/b/other.gguf")]);
        assert_eq!(others.list(&own).unwrap().len(), 2);
        let error = others.find(&own, "gpt-4").unwrap_err().to_string();
        assert!(error.ends_with("there are small, other"), "{error}");
    }
}
