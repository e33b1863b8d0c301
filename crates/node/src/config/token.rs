//! Reads a token from the first line of a file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Reads a token: the first line of its file.
pub fn read_token(file: &Path) -> Result<String, TokenError> {
    const MAX_BYTES: usize = 4_096;
    let mut start = Vec::new();
    // Room for blank space around it; a device would give bytes without an end.
    File::open(file)
        .and_then(|file| file.take(2 * MAX_BYTES as u64).read_to_end(&mut start))
        .map_err(|source| TokenError::Io { file: file.to_path_buf(), source })?;
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match std::str::from_utf8(line.trim_ascii()) {
        Ok(token)
            if (1..=MAX_BYTES).contains(&token.len())
                && token.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(token.to_owned())
        }
        _ => Err(TokenError::Form { file: file.to_path_buf() }),
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the token file {} cannot be read", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The first line is no token.
    #[error("the first line of {} is no token: it has 1 to 4 096 printable ASCII characters", file.display())]
    Form {
        /// The file.
        file: PathBuf,
    },
}
