//! Models that were split into several GGUF files: which part a file is, and where the others lie.
//!
//! Stands beside `header`, below `gguf`. The names are those of llama.cpp's `gguf-split`: `NAME-00001-of-00003.gguf`.

use std::path::{Path, PathBuf};

use super::metadata::{Metadata, MetadataError};

/// Which part of a split model a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Split {
    /// From 0.
    pub(super) number: u16,
    pub(super) count: u16,
    /// Tensors in all parts together, if the file says.
    pub(super) tensors: Option<u64>,
}

impl Split {
    /// `None` if the model is one file.
    pub(super) fn of(metadata: &Metadata) -> Result<Option<Split>, MetadataError> {
        let part = |key| match metadata.find_u32(key)? {
            None => Ok(0),
            Some(number) => u16::try_from(number).map_err(|_| {
                let found = number.into();
                MetadataError::OutOfRange { key: key.to_owned(), wanted: "u16", found }
            }),
        };
        let count = part("split.count")?;
        if count <= 1 {
            return Ok(None);
        }
        let tensors = metadata.find_u64("split.tensors.count")?;
        Ok(Some(Split { number: part("split.no")?, count, tensors }))
    }

    /// The path of part `number` (from 0), by the path of this one. `None` if this one has not the name of a part.
    pub(super) fn path_of(self, path: &Path, number: u16) -> Option<PathBuf> {
        let name = path.file_name()?.to_str()?;
        let stem = name.strip_suffix(&suffix(self.number, self.count))?;
        Some(path.with_file_name(format!("{stem}{}", suffix(number, self.count))))
    }
}

fn suffix(number: u16, count: u16) -> String {
    format!("-{:05}-of-{count:05}.gguf", u32::from(number) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_name() {
        let split = Split { number: 0, count: 3, tensors: None };
        let path = |name: &str| split.path_of(Path::new(name), 2);
        assert_eq!(path("/m/a-00001-of-00003.gguf"), Some("/m/a-00003-of-00003.gguf".into()));
        for other in ["/m/a.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00001-of-00004.gguf", "/"] {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
