//! Which model a word on the command line means: a file, or one on this machine's shelf.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use node::shelf::{Entry, Shelf, ShelfError, State};

/// Where models are kept.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Models {
    /// The folder of the models on this machine; without it ~/.local/share/selvedge/models.
    #[arg(long, value_name = "DIR", env = "SELVEDGE_MODELS", hide_env_values = true)]
    models: Option<PathBuf>,
}

/// A model that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// What to call it.
    pub(crate) name: String,
    /// Its file.
    pub(crate) path: PathBuf,
}

impl Models {
    /// The shelf, whose folder need not be there yet.
    pub(crate) fn shelf(&self) -> anyhow::Result<Shelf> {
        Ok(Shelf::new(self.folder()?))
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.models {
            return Ok(folder.clone());
        }
        // https://specifications.freedesktop.org/basedir-spec: what is not absolute is not to be looked at.
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data =
            absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        let data =
            data.context("there is no home folder to keep models in: name a folder with --models DIR")?;
        Ok(data.join("selvedge/models"))
    }

    /// The model that `wanted` means: a file if there is one, else a model on the shelf.
    pub(crate) fn locate(&self, wanted: &str) -> anyhow::Result<Located> {
        let path = Path::new(wanted);
        if path.is_file() {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Located { name, path: path.to_owned() });
        }
        if path.join("config.json").is_file() {
            anyhow::bail!(
                "{wanted} is a Hugging Face folder: `selvedge import {wanted}` makes a model of it, \
                 which can then be asked by its name"
            );
        }
        if path.is_dir() && (wanted.ends_with('/') || path.is_absolute()) {
            anyhow::bail!("{wanted} is a folder; name a .gguf file in it");
        }
        if looks_like_a_path(wanted) {
            anyhow::bail!("there is no file {wanted}{}", beside(path));
        }
        let entry = self.find(wanted)?;
        match entry.state {
            State::Ready => Ok(Located { name: entry.facts.name.to_string(), path: entry.path }),
            State::Missing => anyhow::bail!(
                "the file of {} is gone: {}; bring it back, or remove the model with `selvedge rm {}`",
                entry.facts.name,
                entry.path.display(),
                entry.facts.name
            ),
            State::Changed => anyhow::bail!(
                "the file of {} has changed since it was added: {}; add it again with `selvedge import --replace`",
                entry.facts.name,
                entry.path.display()
            ),
        }
    }

    /// The model of the shelf that `wanted` means, whatever became of its file.
    pub(crate) fn find(&self, wanted: &str) -> anyhow::Result<Entry> {
        let shelf = self.shelf()?;
        match shelf.find(wanted) {
            Ok(entry) => Ok(entry),
            Err(error @ ShelfError::NotFound { .. }) => {
                let here = shelf.list().map_or(0, |listing| listing.models.len());
                let next = match here {
                    0 => {
                        "no model is here yet: `selvedge pull` and `selvedge import` bring some, or name a .gguf file"
                    }
                    _ => "`selvedge ls` shows what is here",
                };
                Err(anyhow::anyhow!("{error}; {next}"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Names on the shelf have one slash at most, and never begin with a dot or end in the name of a format.
fn looks_like_a_path(wanted: &str) -> bool {
    let lower = wanted.to_ascii_lowercase();
    wanted.starts_with(['/', '.', '~']) || lower.ends_with(".gguf") || wanted.matches('/').count() > 1
}

/// Model files that stand where one was looked for.
fn beside(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(files) = std::fs::read_dir(folder) else {
        return format!(", nor a folder {}", folder.display());
    };
    let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.to_ascii_lowercase().ends_with(".gguf")).collect();
    names.sort();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let near = names.iter().min_by_key(|name| strsim::levenshtein(&name.to_lowercase(), &wanted));
    match near {
        Some(near) if strsim::levenshtein(&near.to_lowercase(), &wanted) <= 1 + wanted.len() / 4 => {
            format!("; did you mean {}?", folder.join(near).display())
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_file_or_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let models = Models { models: Some(folder.path().join("shelf")) };
        std::fs::write(folder.path().join("Tiny-f16.gguf"), "GGUF").unwrap();
        std::fs::create_dir(folder.path().join("hf")).unwrap();
        std::fs::write(folder.path().join("hf/config.json"), "{}").unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let found = models.locate(&at("Tiny-f16.gguf")).unwrap();
        assert_eq!(found.name, "Tiny-f16");
        let check = |wanted: &str, expected: &str| {
            let error = models.locate(wanted).unwrap_err().to_string().replace(&at(""), "/");
            assert_eq!(error, expected, "{wanted}");
        };
        check(&at("tiny-f15.gguf"), "there is no file /tiny-f15.gguf; did you mean /Tiny-f16.gguf?");
        check(&at("other/x.gguf"), "there is no file /other/x.gguf, nor a folder /other");
        check(
            &at("hf"),
            "/hf is a Hugging Face folder: `selvedge import /hf` makes a model of it, which can then be asked by its name",
        );
        check(&at(""), "/ is a folder; name a .gguf file in it");
        check(
            "nothing",
            "there is no model \"nothing\" here; no model is here yet: `selvedge pull` and `selvedge import` bring some, or name a .gguf file",
        );
    }
}
