//! Chooses one model file from a repository's listing. Pure.

use wire::hash::Hash;

use crate::pull::spec::Wanted;
use crate::shelf::quant;

/// What is taken when nothing is said, in this order: the usual balance of size and quality, then what is small or exact.
const USUAL: [&str; 3] = ["q4_k_m", "q4_0", "q8_0"];

/// The most names that an error lists.
const THERE_MAX: usize = 40;

/// A file of a repository, as its listing says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size, if the listing says it.
    pub size_bytes: Option<u64>,
    /// Its hash, if the listing says it; of large files it does.
    pub sha256: Option<Hash>,
}

impl RemoteFile {
    /// The quantisation that its name tells, in lower case.
    pub fn quantisation(&self) -> Option<String> {
        quant::find(stem(&self.path)).map(|(label, _)| label)
    }
}

/// Why no file could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// Not a repository of GGUF files.
    #[error(
        "{repository} has no GGUF file among its {files}; look for a repository of the same model whose name ends in \
         GGUF, or import its folder"
    )]
    NoGguf {
        /// The repository.
        repository: String,
        /// How many files it has.
        files: usize,
    },
    /// No file with that quantisation.
    #[error("{repository} has no {wanted}; it has {}", there.join(", "))]
    NoSuchQuantisation {
        /// The repository.
        repository: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// No file of that name.
    #[error("{repository} has no file {wanted:?}; it has {}", there.join(", "))]
    NoSuchFile {
        /// The repository.
        repository: String,
        /// What was asked for.
        wanted: String,
        /// The model files there are.
        there: Vec<String>,
    },
    /// A model in several files.
    #[error(
        "{file} is one piece of a model cut into several files, which is not supported; take a smaller quantisation"
    )]
    Pieces {
        /// The first of them.
        file: String,
    },
    /// Several files fit.
    #[error("several files fit: {}; say which, as in owner/name:file.gguf", there.join(", "))]
    Several {
        /// All of them.
        there: Vec<String>,
    },
}

/// Chooses the file that is wanted. Without a wish it is the first of Q4_K_M, Q4_0 and Q8_0 that is there, or the first
/// of all by name; files that only accompany models (`mmproj-…`, `imatrix…`) are taken only if they are named.
pub fn choose<'a>(
    repository: &str,
    files: &'a [RemoteFile],
    wanted: &Wanted,
) -> Result<&'a RemoteFile, ChooseError> {
    let repository = || repository.to_owned();
    let mut models: Vec<&RemoteFile> = files.iter().filter(|file| is_gguf(&file.path)).collect();
    models.sort_by(|a, b| a.path.cmp(&b.path));
    let names = |files: &[&RemoteFile]| files.iter().take(THERE_MAX).map(|file| file.path.clone()).collect();
    if let Wanted::File(wanted) = wanted {
        let exact = models.iter().filter(|file| file.path == *wanted);
        let by_name = models.iter().filter(|file| file.path.rsplit('/').next() == Some(wanted));
        let mut found: Vec<&RemoteFile> = exact.copied().collect();
        if found.is_empty() {
            found = by_name.copied().collect();
        }
        return match found[..] {
            [file] if is_piece(&file.path) => Err(ChooseError::Pieces { file: file.path.clone() }),
            [file] => Ok(file),
            [] => Err(ChooseError::NoSuchFile {
                repository: repository(),
                wanted: wanted.clone(),
                there: names(&models),
            }),
            _ => Err(ChooseError::Several { there: names(&found) }),
        };
    }
    models.retain(|file| !is_companion(&file.path));
    let (pieces, whole): (Vec<_>, Vec<_>) = models.into_iter().partition(|file| is_piece(&file.path));
    let with = |files: &[&'a RemoteFile], label: &str| -> Vec<&'a RemoteFile> {
        files.iter().filter(|file| file.quantisation().as_deref() == Some(label)).copied().collect()
    };
    match wanted {
        Wanted::Quantisation(label) => {
            match (with(&whole, label)[..].split_first(), with(&pieces, label).first()) {
                (Some((file, [])), _) => Ok(file),
                (Some(_), _) => Err(ChooseError::Several { there: names(&with(&whole, label)) }),
                (None, Some(piece)) => Err(ChooseError::Pieces { file: piece.path.clone() }),
                (None, None) if whole.is_empty() && pieces.is_empty() => {
                    Err(ChooseError::NoGguf { repository: repository(), files: files.len() })
                }
                (None, None) => {
                    let labels = whole.iter().chain(&pieces).filter_map(|file| file.quantisation());
                    let mut there: Vec<String> = labels.collect();
                    there.sort();
                    there.dedup();
                    there.truncate(THERE_MAX);
                    if there.is_empty() {
                        there = names(&whole);
                    }
                    Err(ChooseError::NoSuchQuantisation {
                        repository: repository(),
                        wanted: label.clone(),
                        there,
                    })
                }
            }
        }
        Wanted::Usual | Wanted::File(_) => {
            let usual = USUAL.iter().find_map(|label| with(&whole, label).first().copied());
            match (usual.or(whole.first().copied()), pieces.first()) {
                (Some(file), _) => Ok(file),
                (None, Some(piece)) => Err(ChooseError::Pieces { file: piece.path.clone() }),
                (None, None) => Err(ChooseError::NoGguf { repository: repository(), files: files.len() }),
            }
        }
    }
}

fn is_gguf(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".gguf")
}

/// A projector of pictures, or what a quantiser was told: no language model by itself.
fn is_companion(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    name.contains("mmproj") || name.contains("imatrix")
}

/// `model-00001-of-00003.gguf`.
fn is_piece(path: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = stem(path).rsplitn(4, '-');
    let (all, of, one) = (parts.next(), parts.next(), parts.next());
    all.is_some_and(number) && of == Some("of") && one.is_some_and(number)
}

fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[&str], wanted: &str, expected: &str) {
        let files: Vec<_> = files
            .iter()
            .map(|path| RemoteFile { path: (*path).to_owned(), size_bytes: None, sha256: None })
            .collect();
        let wanted = match wanted {
            "" => Wanted::Usual,
            file if is_gguf(file) => Wanted::File(file.into()),
            label => Wanted::Quantisation(label.into()),
        };
        match choose("me/tiny", &files, &wanted) {
            Ok(file) => assert_eq!(file.path, expected),
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{wanted:?}: {error}");
            }
        }
    }

    #[test]
    fn the_file_that_is_meant() {
        let usual = ["README.md", "t-Q8_0.gguf", "t-Q4_K_M.gguf", "t-Q4_0.gguf", "mmproj-t-Q4_K_M.gguf"];
        check(&usual, "", "t-Q4_K_M.gguf");
        check(&usual, "q8_0", "t-Q8_0.gguf");
        check(&usual, "q4_k_m", "t-Q4_K_M.gguf");
        check(&usual, "t-Q4_0.gguf", "t-Q4_0.gguf");
        check(&usual, "mmproj-t-Q4_K_M.gguf", "mmproj-t-Q4_K_M.gguf");
        check(&usual, "q5_0", "has no q5_0; it has q4_0, q4_k_m, q8_0");
        check(&usual, "none.gguf", "has no file \"none.gguf\"; it has mmproj");
        check(&["b-Q8_0.gguf", "a-Q6_K.gguf"], "", "b-Q8_0.gguf");
        check(&["b-Q5_K.gguf", "a-Q6_K.gguf"], "", "a-Q6_K.gguf");
        check(&["b.gguf", "model.safetensors"], "", "b.gguf");
        check(&["b.gguf"], "q4_0", "it has b.gguf");
        check(&["t-UD-Q4_K_M.gguf", "t-Q4_K_M.gguf"], "q4_k_m", "t-Q4_K_M.gguf");
        check(&["t-UD-Q4_K_M.gguf", "t-Q4_K_M.gguf"], "ud-q4_k_m", "t-UD-Q4_K_M.gguf");
        check(&["a/t-Q4_0.gguf", "b/u-Q4_0.gguf"], "q4_0", "several files fit");
        check(&["a/t.gguf", "b/t.gguf"], "t.gguf", "several files fit");
        check(&["a/t.gguf", "t.gguf"], "t.gguf", "t.gguf");
        check(&["t-Q4_0-00001-of-00002.gguf", "t-Q4_0-00002-of-00002.gguf"], "", "several files");
        check(&["t-Q4_0-00001-of-00002.gguf", "t-Q2_K.gguf"], "q4_0", "cut into several");
        check(&["t-Q4_0-00001-of-00002.gguf", "t-Q2_K.gguf"], "", "t-Q2_K.gguf");
        check(&["model.safetensors"], "", "has no GGUF file among its 1");
        check(&[], "q4_0", "no GGUF");
    }
}
