//! A model's name on this machine, `smollm2-135m-instruct:q4_k_m`: checked once, safe in a path, a URL and a log line.
//!
//! Names are lower case, because some file systems cannot tell `A` from `a`; what is typed is made lower case first.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shelf::quant;

/// The most characters of each part of a name.
const PART_MAX: usize = 64;

/// Stand for `/` and `:` in a folder's name: no name has them, and every file system takes them.
const FOLDER_SLASH: char = '+';
const FOLDER_COLON: char = '@';

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A part is empty or too long.
    #[error("{name:?}: each part of a model's name has 1 to {PART_MAX} characters")]
    Length {
        /// The whole name.
        name: String,
    },
    /// A character outside the alphabet, or at a place where it may not stand.
    #[error(
        "{name:?} cannot name a model because of {found:?}: use letters, digits, '-', '_' and '.', with a letter or \
         digit at both ends, as in smollm2-135m:q4_k_m or someone/smollm2:q4_k_m"
    )]
    Character {
        /// The whole name.
        name: String,
        /// The offending character.
        found: char,
    },
    /// More parts than `owner/name:tag`.
    #[error("{name:?} has too many parts: a model's name is name, name:tag or owner/name:tag")]
    Parts {
        /// The whole name.
        name: String,
    },
}

/// `name`, `name:tag` or `owner/name:tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Box<str>);

impl ModelName {
    /// Checks a name; letters are made lower case.
    pub fn new(name: &str) -> Result<ModelName, NameError> {
        let shown = || name.chars().take(3 * PART_MAX).collect::<String>();
        let lower = name.to_ascii_lowercase();
        let (base, tag) = match lower.split_once(':') {
            Some((base, tag)) => (base, Some(tag)),
            None => (&*lower, None),
        };
        let (owner, base) = match base.split_once('/') {
            Some((owner, base)) => (Some(owner), base),
            None => (None, base),
        };
        for part in owner.into_iter().chain([base]).chain(tag) {
            if part.contains(['/', ':']) {
                return Err(NameError::Parts { name: shown() });
            }
            if part.is_empty() || part.len() > PART_MAX {
                return Err(NameError::Length { name: shown() });
            }
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            let wrong = part.chars().find(|c| !letter(*c) && !matches!(c, '-' | '_' | '.'));
            let ends = part.chars().next().into_iter().chain(part.chars().last());
            let wrong = wrong.or_else(|| ends.into_iter().find(|c| !letter(*c)));
            if let Some(found) = wrong {
                return Err(NameError::Character { name: shown(), found });
            }
        }
        Ok(ModelName(lower.into()))
    }

    /// The name of a file of a repository: `HuggingFaceTB/SmolLM2-135M-Instruct-GGUF` and
    /// `SmolLM2-135M-Instruct-Q4_K_M.gguf` give `smollm2-135m-instruct:q4_k_m`.
    pub fn of_repository(repository: &str, file: &str) -> ModelName {
        let last = repository.rsplit('/').next().unwrap_or_default();
        let lower = last.to_ascii_lowercase();
        let bare = lower.strip_suffix("gguf").map_or(&*lower, |rest| rest.trim_end_matches(['-', '_', '.']));
        let base = slug(&without_label(bare));
        let stem = stem(file);
        let tag = match quant::find(stem) {
            Some((label, _)) => slug(&label),
            None => {
                let whole = slug(stem);
                let rest = whole.strip_prefix(&base).unwrap_or(&whole);
                rest.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
            }
        };
        join(&base, &tag)
    }

    /// The name of a file by itself: `/data/llama-2-7b.Q4_0.gguf` gives `llama-2-7b:q4_0`.
    pub fn of_file(file: &str) -> ModelName {
        let stem = stem(file);
        let tag = quant::find(stem).map(|(label, _)| slug(&label)).unwrap_or_default();
        join(&slug(&without_label(stem)), &tag)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the tag: `owner/name` or `name`.
    pub fn base(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(base, _)| base)
    }

    /// What stands behind `:`.
    pub fn tag(&self) -> Option<&str> {
        self.0.split_once(':').map(|(_, tag)| tag)
    }

    /// The model's folder on the shelf.
    pub fn folder(&self) -> String {
        self.0.replace('/', &FOLDER_SLASH.to_string()).replace(':', &FOLDER_COLON.to_string())
    }

    /// The inverse of [`ModelName::folder`]; `None` for a folder that is none of ours.
    pub fn of_folder(folder: &str) -> Option<ModelName> {
        let name = folder.replace(FOLDER_SLASH, "/").replace(FOLDER_COLON, ":");
        ModelName::new(&name).ok().filter(|name| name.folder() == folder)
    }
}

/// A file's name without its folder and `.gguf`.
fn stem(file: &str) -> &str {
    let name = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let cut = name.len().saturating_sub(".gguf".len());
    match name.get(cut..) {
        Some(end) if end.eq_ignore_ascii_case(".gguf") => &name[..cut],
        _ => name,
    }
}

fn without_label(stem: &str) -> String {
    match quant::find(stem) {
        Some((_, range)) if range.start > 0 => format!("{}{}", &stem[..range.start], &stem[range.end..]),
        _ => stem.to_owned(),
    }
}

/// A stranger's words as one part of a name.
fn slug(words: &str) -> String {
    let mut slug = String::new();
    for c in words.chars() {
        let c = c.to_ascii_lowercase();
        let keep = c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let c = if keep { c } else { '-' };
        let repeats =
            !c.is_ascii_alphanumeric() && slug.ends_with(|last: char| !last.is_ascii_alphanumeric());
        if slug.len() < PART_MAX && !repeats {
            slug.push(c);
        }
    }
    slug.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn join(base: &str, tag: &str) -> ModelName {
    let base = if base.is_empty() { "model" } else { base };
    ModelName(if tag.is_empty() { base.into() } else { format!("{base}:{tag}").into() })
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for ModelName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        ModelName::new(name)
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        ModelName::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_name_a_model() {
        fn check(name: &str, expected: Option<&str>) {
            assert_eq!(ModelName::new(name).ok().as_ref().map(ModelName::as_str), expected, "{name:?}");
        }
        check("smollm2-135m:q4_k_m", Some("smollm2-135m:q4_k_m"));
        check("SmolLM2:Q4_K_M", Some("smollm2:q4_k_m"));
        check("owner/name:tag", Some("owner/name:tag"));
        for bad in
            ["", ".", "..", "../x", "a/..", "a/b/c", "a:b:c", "a:", ":a", "/a", "a/", "a:b/c", "a b", "a\\b"]
        {
            check(bad, None);
        }
        for bad in ["-rm", ".git", "a.", "näh", "a\0", "a@b", "a+b", "a\n", &"a".repeat(65)] {
            check(bad, None);
        }
    }

    #[test]
    fn names_are_derived() {
        fn check(repository: &str, file: &str, expected: &str) {
            assert_eq!(ModelName::of_repository(repository, file).as_str(), expected);
        }
        check(
            "HuggingFaceTB/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct-Q4_K_M.gguf",
            "smollm2-135m-instruct:q4_k_m",
        );
        check("me/tiny-Q4_K_M-GGUF", "tiny-q4_k_m.gguf", "tiny:q4_k_m");
        check("ggml-org/models", "tinyllamas/stories260K.gguf", "models:stories260k");
        check("x/stories260K-gguf", "stories260K.GGUF", "stories260k");
        check("x/gguf", "a b.gguf", "model:a-b");
        fn check_file(file: &str, expected: &str) {
            assert_eq!(ModelName::of_file(file).as_str(), expected);
        }
        check_file("/data/llama-2-7b.Q4_0.gguf", "llama-2-7b:q4_0");
        check_file("C:\\models\\Phi 3.gguf", "phi-3");
        check_file("Q4_0.gguf", "q4_0:q4_0");
        check_file("…", "model");
    }

    proptest! {
        #[test]
        fn what_is_derived_is_a_name(repository in ".{0,80}", file in ".{0,80}") {
            for name in [ModelName::of_repository(&repository, &file), ModelName::of_file(&file)] {
                prop_assert_eq!(ModelName::new(name.as_str()), Ok(name.clone()));
                prop_assert_eq!(ModelName::of_folder(&name.folder()), Some(name));
            }
        }

        #[test]
        fn a_folder_stays_in_the_shelf(name in "[a-zA-Z0-9./:_\\\\-]{0,20}") {
            if let Ok(name) = ModelName::new(&name) {
                let folder = name.folder();
                prop_assert!(!folder.contains(['/', '\\']) && !folder.starts_with('.'));
                prop_assert_eq!(ModelName::of_folder(&folder), Some(name));
            }
        }
    }
}
