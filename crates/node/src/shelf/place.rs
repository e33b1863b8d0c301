//! A model's place on the shelf, held by one process at a time: everything that changes a model goes through here.
//!
//! A place is held by a lock on a file that stays (`.locks/<folder>`), so that it cannot be removed under who waits for
//! it; the lock ends with the process, however that ends. Readers need no lock: a model is there from the instant its
//! facts are, and its numbers are in place before that.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use package::disk::FileError;
use wire::hash::Hash;

use crate::durable;
use crate::shelf::facts::{FACTS_FILE, Facts, FactsError, Weights};
use crate::shelf::name::ModelName;
use crate::shelf::part::{PART_FILE, PART_STATE_FILE};

/// Where the locks are, on the shelf.
const LOCKS: &str = ".locks";

/// A copy under way, in the model's folder.
pub const COPY_FILE: &str = "copy.part";

/// The usual name of a model's numbers in its folder.
pub const WEIGHTS_FILE: &str = "model.gguf";

/// Why a place cannot be taken or changed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Another process, or another task of this one, is at it.
    #[error("{name} is being downloaded, imported or removed right now; wait for that, or stop it")]
    Busy {
        /// The model.
        name: ModelName,
    },
    /// Its facts cannot be read or written.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A model's place, held until dropped.
#[derive(Debug)]
pub struct Place {
    name: ModelName,
    folder: PathBuf,
    lock: File,
}

impl Place {
    /// Takes a model's place on the shelf at `root`. What a killed process left half done is cleared or made resumable.
    pub fn take(root: &Path, name: &ModelName) -> Result<Place, PlaceError> {
        let locks = root.join(LOCKS);
        durable::make_folder(&locks)?;
        let path = locks.join(name.folder());
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(FileError::at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PlaceError::Busy { name: name.clone() }),
            Err(TryLockError::Error(error)) => return Err(FileError::at(&path)(error).into()),
        }
        let place = Place { name: name.clone(), folder: root.join(name.folder()), lock };
        place.mend()?;
        Ok(place)
    }

    /// The model's name.
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// The model's folder. It may not be there yet: [`Place::make_folder`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder if it is not there.
    pub fn make_folder(&self) -> Result<(), FileError> {
        durable::make_folder(&self.folder)
    }

    /// What is known of the model; `None`: there is none.
    pub fn facts(&self) -> Result<Option<Facts>, FactsError> {
        Facts::read(&self.folder)
    }

    /// Makes a file of the folder (all of it on the disk already) the model's numbers, and `facts` its facts. A model that was
    /// there is replaced at one instant; whoever has its file open keeps it.
    pub fn put(&self, from: &Path, facts: &mut Facts, sha256: Hash) -> Result<(), PlaceError> {
        let old = self.own_weights();
        let file = match old {
            Some(old) if old == WEIGHTS_FILE => format!("model-{:.12}.gguf", sha256.to_string()),
            _ => WEIGHTS_FILE.to_owned(),
        };
        durable::rename(from, &self.folder.join(&file))?;
        facts.weights = Weights::Own { file };
        facts.sha256 = Some(sha256);
        self.link(facts)
    }

    /// Writes the facts, and clears what no longer belongs.
    pub fn link(&self, facts: &Facts) -> Result<(), PlaceError> {
        self.make_folder()?;
        facts.write(&self.folder)?;
        let keep = match &facts.weights {
            Weights::Own { file } => Some(file.as_str()),
            Weights::Link { .. } => None,
        };
        self.clear(|file| file == FACTS_FILE || Some(file) == keep)?;
        Ok(())
    }

    /// Removes the model and any part of it. Whoever has its file open keeps it, on Unix.
    pub fn remove(self) -> Result<(), FileError> {
        durable::remove(&self.folder.join(FACTS_FILE))?;
        self.clear(|_| false)?;
        match fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::at(&self.folder)(error)),
            _ => Ok(()),
        }
    }

    /// After a process died: numbers whose facts were not written yet are a part again, other leftovers go.
    fn mend(&self) -> Result<(), FileError> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        // Facts that cannot be read may be a newer version's: nothing is cleared then.
        let Ok(facts) = self.facts() else { return Ok(()) };
        let own = self.own_weights();
        let part = self.folder.join(PART_FILE);
        let began = self.folder.join(PART_STATE_FILE);
        if began.is_file() && !part.is_file() {
            let numbers =
                self.files()?.into_iter().find(|file| is_weights(file) && Some(file) != own.as_ref());
            if let Some(file) = numbers {
                durable::rename(&self.folder.join(file), &part)?;
            }
        }
        let is_download = |file: &str| file == PART_FILE || file == PART_STATE_FILE;
        let is_model = |file: &str| facts.is_some() && file == FACTS_FILE || own.as_deref() == Some(file);
        self.clear(|file| is_download(file) || is_model(file))
    }

    fn own_weights(&self) -> Option<String> {
        match self.facts().ok()??.weights {
            Weights::Own { file } => Some(file),
            Weights::Link { .. } => None,
        }
    }

    /// The files of the folder that are named in UTF-8; ours all are.
    fn files(&self) -> Result<Vec<String>, FileError> {
        let list = match fs::read_dir(&self.folder) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::at(&self.folder)(error)),
        };
        let mut files = Vec::new();
        for file in list {
            let file = file.map_err(FileError::at(&self.folder))?;
            files.extend(file.file_name().into_string());
        }
        Ok(files)
    }

    /// Removes those of our own files that `keep` does not want; a file that somebody else put there stays.
    fn clear(&self, keep: impl Fn(&str) -> bool) -> Result<(), FileError> {
        for file in self.files()? {
            let ours = is_weights(&file)
                || file.ends_with(".new")
                || [FACTS_FILE, PART_FILE, PART_STATE_FILE, COPY_FILE].contains(&&*file);
            if ours && !keep(&file) {
                durable::remove(&self.folder.join(file))?;
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only an empty folder can be removed so: one in which nothing came to be.
        let _ = fs::remove_dir(&self.folder);
        // Closing alone is not enough: a child process that is just being started holds a copy until it is another program.
        let _ = self.lock.unlock();
    }
}

fn is_weights(file: &str) -> bool {
    file == WEIGHTS_FILE || file.starts_with("model-") && file.ends_with(".gguf")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::fatal;
    use crate::shelf::facts::Origin;
    use crate::shelf::part::PartState;

    fn name() -> ModelName {
        ModelName::new("tiny").unwrap()
    }

    fn facts(bytes: &[u8]) -> Facts {
        let weights = Weights::Own { file: String::new() };
        let size_bytes = bytes.len() as u64;
        Facts { name: name(), weights, size_bytes, sha256: None, added_ms: 0, origin: Origin::default() }
    }

    fn put(root: &Path, bytes: &[u8]) -> Result<(), PlaceError> {
        let place = Place::take(root, &name())?;
        place.make_folder()?;
        let part = place.folder().join(PART_FILE);
        fs::write(&part, bytes).unwrap();
        let state = PartState {
            source_key: Hash::of(b""),
            etag: None,
            total_bytes: None,
            sha256: None,
            synced_bytes: 0,
            origin: Origin::default(),
        };
        state.write(place.folder())?;
        place.put(&part, &mut facts(bytes), Hash::of(bytes))
    }

    /// The model's numbers, which must be whole if it is there at all.
    fn numbers(root: &Path) -> Option<Vec<u8>> {
        let folder = root.join("tiny");
        let facts = Facts::read(&folder).unwrap()?;
        let bytes = fs::read(facts.weights_path(&folder)).unwrap();
        assert_eq!(facts.sha256, Some(Hash::of(&bytes)));
        Some(bytes)
    }

    #[test]
    fn a_kill_at_any_step_leaves_the_old_model_the_new_one_or_none() {
        for before in [None, Some(&b"old"[..])] {
            let mut steps = 0;
            loop {
                let root = tempfile::tempdir().unwrap();
                let root = root.path();
                if let Some(before) = before {
                    put(root, before).unwrap();
                }
                let died = fatal::after(steps, || drop(put(root, b"new")));
                if died && root.join("tiny").is_dir() {
                    fs::write(durable::beside(&root.join("tiny").join(FACTS_FILE)), b"torn").unwrap();
                }
                let left = numbers(root);
                assert!(left.as_deref() == Some(b"new") || left.as_deref() == before, "step {steps}");
                // The next one finds a place that works, and what was downloaded is not lost: it is a part or the model.
                let place = Place::take(root, &name()).unwrap();
                let mut files = place.files().unwrap();
                assert!(files.len() <= 4 && !files.iter().any(|file| file.ends_with(".new")), "{files:?}");
                if left.as_deref() == before && files.contains(&PART_STATE_FILE.to_owned()) {
                    assert_eq!(fs::read(place.folder().join(PART_FILE)).unwrap(), b"new", "step {steps}");
                }
                drop(place);
                put(root, b"newer").unwrap();
                assert_eq!(numbers(root).as_deref(), Some(&b"newer"[..]));
                files = Place::take(root, &name()).unwrap().files().unwrap();
                assert_eq!(files.len(), 2, "step {steps}: {files:?}");
                if !died {
                    break;
                }
                steps += 1;
            }
            assert!(steps >= 8, "{steps}");
        }
    }

    #[test]
    fn a_kill_while_removing_leaves_the_model_or_none() {
        let mut steps = 0;
        loop {
            let root = tempfile::tempdir().unwrap();
            let root = root.path();
            put(root, b"old").unwrap();
            let died = fatal::after(steps, || {
                if let Ok(place) = Place::take(root, &name()) {
                    drop(place.remove());
                }
            });
            assert!(numbers(root).is_none_or(|bytes| bytes == b"old"));
            Place::take(root, &name()).unwrap().remove().unwrap();
            assert!(!root.join("tiny").exists());
            if !died {
                break;
            }
            steps += 1;
        }
        assert!(steps >= 2, "{steps}");
    }

    #[test]
    fn a_place_is_held_by_one() {
        let root = tempfile::tempdir().unwrap();
        let held = Place::take(root.path(), &name()).unwrap();
        assert!(matches!(Place::take(root.path(), &name()), Err(PlaceError::Busy { .. })));
        Place::take(root.path(), &ModelName::new("other").unwrap()).unwrap();
        drop(held);
        Place::take(root.path(), &name()).unwrap();
        assert!(!root.path().join("tiny").exists(), "nothing came to be");
    }

    #[test]
    fn what_somebody_else_put_there_stays() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), b"old").unwrap();
        let note = root.path().join("tiny/README");
        fs::write(&note, "mine").unwrap();
        put(root.path(), b"new").unwrap();
        assert!(note.exists());
        assert!(Place::take(root.path(), &name()).unwrap().remove().is_err(), "the folder is not empty");
        assert!(note.exists() && numbers(root.path()).is_none());
    }
}
