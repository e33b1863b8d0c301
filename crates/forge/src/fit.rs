//! Which of several files a machine can run: what each needs, against what the machine has.
//!
//! Needs are reckoned from the file's own metadata (`lm::memory`), without loading it. How fast it would be is measured by
//! whoever asks, on the machine itself, and stands beside this.

use std::path::{Path, PathBuf};

use kernels::page::{CacheFormat, PageError};
use lm::family::{self, keys::ShapeError};
use lm::gguf::{Gguf, GgufError};
use lm::memory::Needed;
use lm::model::Facts;

/// One file against one machine.
#[derive(Debug, serde::Serialize)]
pub struct Fit {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself; absent where it cannot be read as a model.
    pub facts: Option<Facts>,
    /// Bytes it needs at the context that was asked for.
    pub needed_bytes: Option<u64>,
    /// Whether it fits, and if not, why.
    pub verdict: Verdict,
}

/// Whether a file fits.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// It does, with so much to spare.
    Fits {
        /// Bytes left.
        spare_bytes: u64,
    },
    /// It does not: more memory is needed.
    TooLarge {
        /// Bytes missing.
        missing_bytes: u64,
    },
    /// It was trained for a shorter context.
    ContextTooLong {
        /// The longest it knows.
        context: u64,
    },
    /// It cannot run here at all.
    Unsupported {
        /// Why.
        why: String,
    },
}

#[derive(Debug, thiserror::Error)]
enum Unsupported {
    #[error(transparent)]
    File(#[from] GgufError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Page(#[from] PageError),
}

/// Judges each file for a machine with `available` bytes of memory, at a context of `context` tokens.
pub fn fit(files: &[PathBuf], available: u64, context: usize, cache: CacheFormat) -> Vec<Fit> {
    files.iter().map(|path| one(path, available, context, cache)).collect()
}

fn one(path: &Path, available: u64, context: usize, cache: CacheFormat) -> Fit {
    let judged = (|| -> Result<Fit, Unsupported> {
        let file = Gguf::open(path)?;
        let shape = family::shape(file.metadata())?;
        let needed = Needed::reckon(&file, &shape, context, cache)?.total();
        let verdict = if context > shape.context {
            Verdict::ContextTooLong { context: shape.context as u64 }
        } else if needed > available {
            Verdict::TooLarge { missing_bytes: needed - available }
        } else {
            Verdict::Fits { spare_bytes: available - needed }
        };
        Ok(Fit { path: path.to_owned(), facts: Some(Facts::of(&file)), needed_bytes: Some(needed), verdict })
    })();
    judged.unwrap_or_else(|error| {
        let verdict = Verdict::Unsupported { why: error.to_string() };
        Fit { path: path.to_owned(), facts: None, needed_bytes: None, verdict }
    })
}

#[cfg(test)]
mod tests {
    use lm::gguf::write::Writer;
    use lm::specimen::Specimen;

    use super::*;

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("the folder can be written");
        path
    }

    #[test]
    fn each_file_gets_its_verdict() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut model = Vec::new();
        Specimen::SMALL.write(&mut model).expect("a specimen is a model");
        let mut strange = Vec::new();
        let mut metadata = lm::gguf::metadata::Metadata::new();
        metadata.set("general.architecture", "mamba");
        let writer = Writer::new(metadata).expect("keys are well formed");
        writer.write_to(&mut strange, &mut |_, _| Ok(())).expect("a list takes all");
        let small = write(folder.path(), "small.gguf", &model);
        let cut = write(folder.path(), "cut.gguf", &model[..model.len() / 2]);
        let other = write(folder.path(), "other.gguf", &strange);
        let absent = folder.path().join("absent.gguf");

        let one = |path: &PathBuf, available: u64, context: usize| {
            fit(std::slice::from_ref(path), available, context, CacheFormat::F16).remove(0)
        };
        let plenty = one(&small, 1 << 30, 256);
        let needed = plenty.needed_bytes.expect("a model that can be read needs something");
        let Verdict::Fits { spare_bytes } = plenty.verdict else { panic!("{plenty:?}") };
        assert_eq!(spare_bytes, (1 << 30) - needed);
        assert!(needed > model.len() as u64 / 2, "its weights at least: {needed}");

        for (path, available, context, expected) in [
            (&small, needed, 256, Verdict::Fits { spare_bytes: 0 }),
            (&small, needed - 1, 256, Verdict::TooLarge { missing_bytes: 1 }),
            // The context is looked at first: no memory would make it longer.
            (&small, 0, 513, Verdict::ContextTooLong { context: 512 }),
        ] {
            assert_eq!(
                one(path, available, context).verdict,
                expected,
                "{available} bytes, {context} tokens"
            );
        }
        assert!(one(&small, 1 << 30, 512).needed_bytes > Some(needed), "a longer context needs more");
        for (path, word) in [(&cut, "cut.gguf"), (&other, "mamba"), (&absent, "absent.gguf")] {
            let found = one(path, 1 << 30, 256);
            let Verdict::Unsupported { why } = &found.verdict else { panic!("{found:?}") };
            assert!(why.contains(word), "{word} is not in: {why}");
            assert_eq!((found.facts, found.needed_bytes), (None, None));
        }
    }
}
