//! The models on this machine: a folder with a folder per model, which a person can read with `ls` and `cat`.
//!
//! Stands between whoever brings a model (`shelf::import`, `pull`) and whoever runs one. In reading order: [`name`] says
//! what a model may be called ([`quant`] finds the quantisation in a file's name), [`facts`] what is known of it,
//! [`part`] what is known of a download under way, [`place`] changes a model;
//! [`look`] tells a model from a web page.
//!
//! What always holds: a model that is listed is whole. A process killed at any instant leaves the old model, the new one
//! or none, and perhaps a part that the next download goes on with.

pub mod facts;
pub mod import;
pub mod look;
pub mod name;
pub mod part;
pub mod place;
pub mod quant;

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use package::disk::FileError;
use package::disk::room::Room;
use sha2::{Digest, Sha256};
use wire::hash::Hash;

use self::facts::{Facts, FactsError, Origin, Weights};
use self::name::ModelName;
use self::part::{PART_FILE, PartState};
use self::place::{Place, PlaceError, WEIGHTS_FILE};

/// The most names that an error lists.
const NEAR_MAX: usize = 8;

/// The largest distance between two words at which one may have been meant for the other.
const NEAR_DISTANCE: usize = 3;

/// How much of a file is hashed between two looks at the time.
const HASH_STEP_BYTES: usize = 1 << 20;

/// Why the shelf could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// No such model.
    #[error("there is no model {wanted:?} here{}", did_you_mean(near))]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// What may have been meant.
        near: Vec<ModelName>,
    },
    /// A name without its tag, of which there are several.
    #[error("{wanted:?} could be {}: say which", list(candidates))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// All that it could be.
        candidates: Vec<ModelName>,
    },
    /// The model's place is held by another, or refuses.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The model's facts cannot be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
}

fn list(names: &[ModelName]) -> String {
    names.iter().map(ModelName::as_str).collect::<Vec<_>>().join(", ")
}

fn did_you_mean(near: &[ModelName]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", list(near)) }
}

/// Whether a model's numbers are what its facts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There, with the right size.
    Ready,
    /// The file is gone; for a link, somebody moved it or its disk is not there.
    Missing,
    /// The file has another size, or was written to since it was linked: it may be another model.
    Changed,
}

/// A model on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is known of it.
    pub facts: Facts,
    /// The file with its numbers.
    pub path: PathBuf,
    /// Whether that file is what the facts say.
    pub state: State,
}

impl Entry {
    pub(crate) fn new(folder: &Path, facts: Facts) -> Entry {
        let path = facts.weights_path(folder);
        let state = match fs::metadata(&path) {
            Ok(found) if !found.is_file() || found.len() != facts.size_bytes => State::Changed,
            Ok(found) => match facts.weights {
                Weights::Link { modified_ms: Some(then), .. } if modified_ms(&found) != Some(then) => {
                    State::Changed
                }
                _ => State::Ready,
            },
            Err(_) => State::Missing,
        };
        Entry { facts, path, state }
    }
}

/// When a file was last changed, in milliseconds since 1970.
pub(crate) fn modified_ms(file: &fs::Metadata) -> Option<i64> {
    let since = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// A download that has not become a model yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The name it will have.
    pub name: ModelName,
    /// What is there.
    pub done_bytes: u64,
    /// What there will be, where known.
    pub total_bytes: Option<u64>,
    /// Where it comes from.
    pub origin: Origin,
}

/// All that is on the shelf, by name.
#[derive(Debug, Default)]
pub struct Listing {
    /// The models.
    pub models: Vec<Entry>,
    /// The downloads that can go on.
    pub unfinished: Vec<Unfinished>,
    /// Models whose facts cannot be read, and why.
    pub unreadable: Vec<(ModelName, FactsError)>,
}

/// A folder of models.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: PathBuf,
    room: Room,
}

impl Shelf {
    /// The shelf at `root`. The folder is made when something is put into it.
    pub fn new(root: impl Into<PathBuf>) -> Shelf {
        Shelf { root: root.into(), room: Room::of_the_disk() }
    }

    /// The same shelf on a disk that has `room`.
    pub fn with_room(self, room: Room) -> Shelf {
        Shelf { room, ..self }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The room on its disk.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Takes a model's place, to change it.
    pub fn take(&self, name: &ModelName) -> Result<Place, PlaceError> {
        Place::take(&self.root, name)
    }

    /// All that is here. A shelf that nobody made yet is empty.
    pub fn list(&self) -> Result<Listing, ShelfError> {
        let mut listing = Listing::default();
        for name in self.names()? {
            let folder = self.root.join(name.folder());
            match Facts::read(&folder) {
                Ok(Some(facts)) => listing.models.push(Entry::new(&folder, facts)),
                Ok(None) => {}
                Err(error) => listing.unreadable.push((name.clone(), error)),
            }
            if let Some(part) = PartState::read(&folder)? {
                // A process that died between the last byte and the facts left the part under its last name.
                let files = [PART_FILE, WEIGHTS_FILE].map(|file| fs::metadata(folder.join(file)));
                let done_bytes = files.into_iter().flatten().next().map_or(0, |file| file.len());
                let PartState { total_bytes, origin, .. } = part;
                listing.unfinished.push(Unfinished { name, done_bytes, total_bytes, origin });
            }
        }
        Ok(listing)
    }

    /// The model of exactly this name.
    pub fn get(&self, name: &ModelName) -> Result<Option<Entry>, ShelfError> {
        let folder = self.root.join(name.folder());
        // A model may be replaced between reading its facts and looking at its file: the second look finds the new one.
        let mut entry = None;
        for _ in 0..2 {
            entry = Facts::read(&folder)?.map(|facts| Entry::new(&folder, facts));
            if entry.as_ref().is_none_or(|entry| entry.state != State::Missing) {
                break;
            }
        }
        Ok(entry)
    }

    /// The model that a person means: its name, its name without the tag if only one has it, or the repository it came
    /// from, with or without `:tag`.
    pub fn find(&self, wanted: &str) -> Result<Entry, ShelfError> {
        if let Ok(name) = ModelName::new(wanted)
            && let Some(entry) = self.get(&name)?
        {
            return Ok(entry);
        }
        let listing = self.list()?;
        let (place, tag) = match wanted.rsplit_once(':') {
            Some((place, tag)) => (place, Some(tag.to_ascii_lowercase())),
            None => (wanted, None),
        };
        let is_meant = |entry: &&Entry| {
            let Facts { name, origin, .. } = &entry.facts;
            let same = |base: &str| base.eq_ignore_ascii_case(place);
            let base = same(name.base()) || origin.repository.as_deref().is_some_and(same);
            base && (tag.is_none() || name.tag() == tag.as_deref())
        };
        let meant: Vec<&Entry> = listing.models.iter().filter(is_meant).collect();
        match meant[..] {
            [entry] => Ok(entry.clone()),
            [] => Err(ShelfError::NotFound { wanted: wanted.to_owned(), near: near(wanted, &listing) }),
            _ => {
                let candidates = meant.iter().map(|entry| entry.facts.name.clone()).collect();
                Err(ShelfError::Ambiguous { wanted: wanted.to_owned(), candidates })
            }
        }
    }

    /// Removes a model, and a download of it that has not finished. A linked file itself stays where it is. Gives the bytes
    /// that are free again, once nobody has them open any more.
    pub fn remove(&self, name: &ModelName) -> Result<u64, ShelfError> {
        let place = self.take(name)?;
        if !place.folder().is_dir() {
            let near = near(name.as_str(), &self.list()?);
            return Err(ShelfError::NotFound { wanted: name.to_string(), near });
        }
        let size = |file: &fs::DirEntry| file.metadata().map_or(0, |file| file.len());
        let files = fs::read_dir(place.folder()).map_err(FileError::at(place.folder()))?;
        let bytes = files.flatten().map(|file| size(&file)).sum();
        place.remove()?;
        Ok(bytes)
    }

    /// Hashes a model's file and says whether it is still what the facts say; `None` if they say nothing. `progress` hears
    /// how many bytes are done and gives false to stop.
    pub fn verify(
        &self,
        entry: &Entry,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<Option<bool>, ShelfError> {
        let Some(expected) = entry.facts.sha256 else { return Ok(None) };
        let mut file = fs::File::open(&entry.path).map_err(FileError::at(&entry.path))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; HASH_STEP_BYTES];
        let mut done = 0;
        loop {
            let count = file.read(&mut buffer).map_err(FileError::at(&entry.path))?;
            if count == 0 {
                return Ok(Some(Hash::from(hasher) == expected));
            }
            hasher.update(&buffer[..count]);
            done += count as u64;
            if !progress(done) {
                return Ok(None);
            }
        }
    }

    fn names(&self) -> Result<Vec<ModelName>, FileError> {
        let list = match fs::read_dir(&self.root) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::at(&self.root)(error)),
        };
        let mut names = Vec::new();
        for folder in list {
            let folder = folder.map_err(FileError::at(&self.root))?;
            names.extend(folder.file_name().to_str().and_then(ModelName::of_folder));
        }
        names.sort();
        Ok(names)
    }
}

/// The models whose names are like what was asked for.
fn near(wanted: &str, listing: &Listing) -> Vec<ModelName> {
    // The distance costs the product of the lengths; no name is that long.
    let wanted: String = wanted.chars().take(256).collect::<String>().to_ascii_lowercase();
    let base = wanted.split(':').next().unwrap_or_default();
    let is_near = |name: &ModelName| {
        let distance =
            strsim::levenshtein(name.base(), base).min(strsim::levenshtein(name.as_str(), &wanted));
        distance <= NEAR_DISTANCE || base.len() > 2 && name.as_str().contains(base)
    };
    let names = listing.models.iter().map(|entry| &entry.facts.name);
    names.filter(|name| is_near(name)).take(NEAR_MAX).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::import::Import;

    /// A shelf with models of these names and repositories.
    fn shelf(models: &[&str]) -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().join("models"));
        let file = folder.path().join("a.gguf");
        fs::write(&file, [&b"GGUF\x03\0\0\0"[..], &[0; 16]].concat()).unwrap();
        for name in models {
            let name = Some(ModelName::new(name).unwrap());
            shelf
                .import(&Import { file: file.clone(), name, link: false, replace: false }, 5, |_| true)
                .unwrap();
        }
        (folder, shelf)
    }

    #[test]
    fn what_a_person_means() {
        let (_folder, shelf) = shelf(&["smollm2:q4_0", "smollm2:q8_0", "tiny:f16", "own/tiny"]);
        let check = |wanted: &str, expected: &str| {
            let found = match shelf.find(wanted) {
                Ok(entry) => entry.facts.name.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{wanted}");
        };
        check("smollm2:q4_0", "smollm2:q4_0");
        check("SmolLM2:Q8_0", "smollm2:q8_0");
        check("tiny", "tiny:f16");
        check("own/tiny", "own/tiny");
        check("smollm2", "\"smollm2\" could be smollm2:q4_0, smollm2:q8_0: say which");
        check("tyni", "there is no model \"tyni\" here; did you mean tiny:f16?");
        check(
            "smollm2:q5_0",
            "there is no model \"smollm2:q5_0\" here; did you mean smollm2:q4_0, smollm2:q8_0?",
        );
        check("../../etc", "there is no model \"../../etc\" here");
        check("", "there is no model \"\" here; did you mean ?".split(';').next().unwrap());
    }

    #[test]
    fn what_is_removed_is_gone_and_what_is_open_stays() {
        let (_folder, shelf) = shelf(&["a", "b"]);
        let a = ModelName::new("a").unwrap();
        let entry = shelf.get(&a).unwrap().unwrap();
        let mut open = fs::File::open(&entry.path).unwrap();
        assert!(shelf.remove(&a).unwrap() >= 24);
        let mut bytes = Vec::new();
        open.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 24);
        assert_eq!(shelf.get(&a).unwrap(), None);
        assert!(matches!(shelf.remove(&a), Err(ShelfError::NotFound { .. })));
        assert_eq!(shelf.list().unwrap().models.len(), 1);
    }

    #[test]
    fn damage_shows_in_the_listing() {
        let (_folder, shelf) = shelf(&["changed", "fine", "gone", "page"]);
        fs::write(shelf.root().join("changed/model.gguf"), "x").unwrap();
        fs::remove_file(shelf.root().join("gone/model.gguf")).unwrap();
        fs::write(shelf.root().join("page/model.toml"), "?").unwrap();
        fs::create_dir(shelf.root().join("No Name")).unwrap();
        let listing = shelf.list().unwrap();
        let states: Vec<_> = listing.models.iter().map(|m| (m.facts.name.as_str(), m.state)).collect();
        assert_eq!(states, [("changed", State::Changed), ("fine", State::Ready), ("gone", State::Missing)]);
        assert_eq!(listing.unreadable.len(), 1);
        // What cannot be read can still be removed.
        shelf.remove(&ModelName::new("page").unwrap()).unwrap();
        assert!(shelf.list().unwrap().unreadable.is_empty());
    }

    #[test]
    fn a_file_that_rotted_is_told() {
        let (_folder, shelf) = shelf(&["a"]);
        let entry = shelf.find("a").unwrap();
        assert_eq!(shelf.verify(&entry, |_| true).unwrap(), Some(true));
        assert_eq!(shelf.verify(&entry, |_| false).unwrap(), None);
        let mut bytes = fs::read(&entry.path).unwrap();
        bytes[23] ^= 1;
        fs::write(&entry.path, bytes).unwrap();
        assert_eq!(shelf.verify(&entry, |_| true).unwrap(), Some(false));
    }

    #[test]
    fn a_shelf_that_nobody_made_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().join("none"));
        assert!(shelf.list().unwrap().models.is_empty());
        assert!(!shelf.root().exists());
    }
}
