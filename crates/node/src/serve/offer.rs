//! The models that a server may load: files named one by one, or all that is on the shelf.

use std::path::{Path, PathBuf};

use wire::world::WallMs;

use crate::shelf::facts::Facts;
use crate::shelf::name::ModelName;
use crate::shelf::{Entry, Shelf, ShelfError, State};

/// A model that may be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What requests call it.
    pub name: String,
    /// Its GGUF file.
    pub file: PathBuf,
    /// SHA-256 of the file in hexadecimal, where somebody has reckoned it.
    pub digest: Option<String>,
    /// When it came here.
    pub added_ms: Option<WallMs>,
}

impl Offer {
    /// A file, under the name that its file's name makes, in lower case.
    pub fn of_file(file: &Path) -> Offer {
        let stem = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = ModelName::of_file(&stem).as_str().to_owned();
        Offer { name, file: file.to_path_buf(), digest: None, added_ms: None }
    }

    /// A model of the shelf.
    pub fn of_shelf(entry: Entry) -> Offer {
        let Facts { name, sha256, added_ms, .. } = entry.facts;
        let digest = sha256.map(|hash| hash.to_string());
        Offer { name: name.as_str().to_owned(), file: entry.path, digest, added_ms: Some(added_ms) }
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
    /// All of them, by name.
    pub(super) fn list(&self) -> Result<Vec<Offer>, ShelfError> {
        match self {
            Offers::Listed(offers) => Ok(offers.clone()),
            Offers::Shelf(shelf) => {
                let ready = shelf.list()?.models.into_iter().filter(|entry| entry.state == State::Ready);
                Ok(ready.map(Offer::of_shelf).collect())
            }
        }
    }

    /// The one that a request means. An empty name means the only one there is.
    pub(super) fn find(&self, wanted: &str) -> Result<Offer, OfferError> {
        let missing = |offers: &[Offer]| {
            let there = offers.iter().map(|offer| offer.name.clone()).collect();
            // A name is bounded by the body alone, and a message needs but its beginning.
            OfferError::NotFound { wanted: wanted.chars().take(200).collect(), there }
        };
        if let (Offers::Shelf(shelf), false) = (self, wanted.is_empty()) {
            return match shelf.find(wanted) {
                Ok(Entry { state: state @ (State::Missing | State::Changed), facts, .. }) => {
                    Err(OfferError::Damaged { name: facts.name.to_string(), state })
                }
                Ok(entry) => Ok(Offer::of_shelf(entry)),
                Err(ShelfError::NotFound { near, .. }) if near.is_empty() => Err(missing(&self.list()?)),
                Err(error) => Err(error.into()),
            };
        }
        let offers = self.list()?;
        let found = match (&offers[..], wanted) {
            ([only], "") => Some(only),
            _ => offers.iter().find(|offer| offer.name.eq_ignore_ascii_case(wanted)),
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
        let names: Vec<String> = two.list().unwrap().into_iter().map(|offer| offer.name).collect();
        assert_eq!(two.find(&names[0].to_uppercase()).unwrap().file, Path::new("/a/Tiny-F16.gguf"));
        let error = two.find("gpt-4").unwrap_err().to_string();
        assert_eq!(error, format!("there is no model \"gpt-4\" here; there are {}, {}", names[0], names[1]));
        assert!(two.find("").is_err());
        let one = Offers::Listed(vec![offer("/b/small.gguf")]);
        assert_eq!(one.find("").unwrap().name, "small");
        assert!(Offers::Listed(Vec::new()).find("x").unwrap_err().to_string().contains("selvedge pull"));
    }
}
