//! What is known of a model on the shelf: its `model.toml`, for people to read and for us.
//!
//! The file is the proof that the model is whole: it is written last and removed first. Keys that this version does not
//! know are left alone by readers; a newer form is refused, not guessed.

use std::path::{Component, Path, PathBuf};

use package::disk::FileError;
use serde::{Deserialize, Serialize};
use wire::hash::Hash;
use wire::world::WallMs;

use crate::durable;
use crate::shelf::name::ModelName;

/// The facts' file in a model's folder.
pub const FACTS_FILE: &str = "model.toml";

/// The largest that is read back.
const FACTS_MAX_BYTES: u64 = 64 << 10;

/// The form that this version writes.
const FORM: u32 = 1;

/// Facts that cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The file refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not what we wrote.
    #[error("{} is damaged ({why}); remove the model and get it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a newer version.
    #[error("{} was written by a newer version (form {form}, this one reads {FORM})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        form: u32,
    },
    /// A path that text cannot hold.
    #[error("{} cannot be kept as a link: its path is not UTF-8", path.display())]
    PathNotText {
        /// The path.
        path: PathBuf,
    },
}

/// Where a model's numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// A file in the model's folder, ours alone.
    Own {
        /// Its name in the folder.
        file: String,
    },
    /// A file elsewhere, somebody else's.
    Link {
        /// Its absolute path.
        path: PathBuf,
        /// When it was last changed, as the file system says, in milliseconds since 1970: shows that it is another file now.
        modified_ms: Option<i64>,
    },
}

/// Where a model came from; what does not apply is absent. Never holds a password or a signed query.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The address it was loaded from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The repository, `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The branch or tag that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that it was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The file in the repository, or the path it was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The server's mark of this very content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

impl Origin {
    /// Whether both are the same file of the same place, perhaps at different times.
    pub fn same_place(&self, other: &Origin) -> bool {
        let place = |origin: &Origin| {
            let Origin { url, repository, revision, file, .. } = origin.clone();
            (url, repository, revision, file)
        };
        place(self) == place(other)
    }
}

/// All that is known without opening the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The model's name.
    pub name: ModelName,
    /// Where its numbers are.
    pub weights: Weights,
    /// The size of that file.
    pub size_bytes: u64,
    /// Its hash; a linked file has none until somebody reads it.
    pub sha256: Option<Hash>,
    /// When it came here.
    pub added_ms: WallMs,
    /// Where from.
    pub origin: Origin,
}

/// `model.toml`, word by word.
#[derive(Serialize, Deserialize)]
struct Page {
    form: u32,
    name: ModelName,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_ms: Option<i64>,
    size_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Hash>,
    added_ms: WallMs,
    #[serde(default)]
    origin: Origin,
}

/// Just enough to know who wrote it.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

impl Facts {
    /// Reads the facts in a model's folder; `None`: there is no model.
    pub fn read(folder: &Path) -> Result<Option<Facts>, FactsError> {
        let path = folder.join(FACTS_FILE);
        let Some(bytes) = durable::read(&path, FACTS_MAX_BYTES)? else { return Ok(None) };
        let damaged = |why: String| FactsError::Damaged { path: path.clone(), why };
        let text = str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
        let Form { form } =
            toml::from_str(text).map_err(|error: toml::de::Error| damaged(error.message().into()))?;
        if form > FORM {
            return Err(FactsError::Newer { path, form });
        }
        let page: Page =
            toml::from_str(text).map_err(|error: toml::de::Error| damaged(error.message().into()))?;
        let weights = match (page.file, page.link) {
            (Some(file), None) if is_plain(&file) => Weights::Own { file },
            (None, Some(link)) => Weights::Link { path: link.into(), modified_ms: page.modified_ms },
            _ => return Err(damaged("it names neither a file beside it nor a link".into())),
        };
        let Page { name, size_bytes, sha256, added_ms, origin, .. } = page;
        Ok(Some(Facts { name, weights, size_bytes, sha256, added_ms, origin }))
    }

    /// Writes the facts into a model's folder; from then on the model is there.
    pub fn write(&self, folder: &Path) -> Result<(), FactsError> {
        let (file, link, modified_ms) = match &self.weights {
            Weights::Own { file } => (Some(file.clone()), None, None),
            Weights::Link { path, modified_ms } => {
                let link = path.to_str().ok_or_else(|| FactsError::PathNotText { path: path.clone() })?;
                (None, Some(link.to_owned()), *modified_ms)
            }
        };
        let Facts { name, size_bytes, sha256, added_ms, origin, .. } = self.clone();
        let page = Page { form: FORM, name, file, link, modified_ms, size_bytes, sha256, added_ms, origin };
        let path = folder.join(FACTS_FILE);
        let text = toml::to_string(&page)
            .map_err(|error| FactsError::Damaged { path: path.clone(), why: error.to_string() })?;
        Ok(durable::write(&path, text.as_bytes())?)
    }

    /// The path of the numbers, for a model whose folder this is.
    pub fn weights_path(&self, folder: &Path) -> PathBuf {
        match &self.weights {
            Weights::Own { file } => folder.join(file),
            Weights::Link { path, .. } => path.clone(),
        }
    }
}

/// Whether it is the name of a file in a folder, and nothing else.
fn is_plain(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !file.contains(['/', '\\'])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn facts(weights: Weights) -> Facts {
        let origin = Origin { repository: Some("me/tiny".into()), ..Origin::default() };
        let name = ModelName::new("tiny:q4_0").unwrap();
        let sha256 = Some(Hash::of(b"abc"));
        Facts { name, weights, size_bytes: 3, sha256, added_ms: 1_767_225_600_000, origin }
    }

    #[test]
    fn what_is_written_is_read_and_a_person_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Facts::read(folder.path()).unwrap(), None);
        let link = Weights::Link { path: "/data/tiny.gguf".into(), modified_ms: Some(5) };
        for weights in [link, Weights::Own { file: "model.gguf".into() }] {
            let facts = facts(weights);
            facts.write(folder.path()).unwrap();
            assert_eq!(Facts::read(folder.path()).unwrap(), Some(facts));
        }
        let text = fs::read_to_string(folder.path().join(FACTS_FILE)).unwrap();
        insta::assert_snapshot!(text, @r#"
        form = 1
        name = "tiny:q4_0"
        file = "model.gguf"
        size_bytes = 3
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        added_ms = 1767225600000

        [origin]
        repository = "me/tiny"
        "#);
    }

    #[test]
    fn what_others_wrote_is_refused_with_a_reason() {
        fn check(text: &str, expected: &str) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FACTS_FILE), text).unwrap();
            let error = Facts::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let page = |weights: &str| format!("form = 1\nname = \"a\"\nsize_bytes = 1\nadded_ms = 0\n{weights}");
        check("", "form");
        check("form = 2\nfuture = true", "newer version");
        check("\u{0}", "damaged");
        check(&page(""), "neither");
        for file in ["../a", "/etc/passwd", "..", "a/b", ""] {
            check(&page(&format!("file = {file:?}")), "neither");
        }
        check(&page("size_bytes = -1"), "damaged");
        check("form = 1\nname = \"../a\"\nsize_bytes = 1\nadded_ms = 0\nfile = \"a\"", "cannot name a model");
        check(&"#".repeat(FACTS_MAX_BYTES as usize + 1), "cannot be used");
    }
}
