//! Where data of others lies that is not part of this repository: some tests do a bigger check where it is at hand.
#![allow(clippy::print_stdout, reason = "says what is skipped")]
#![allow(dead_code, reason = "each test uses its part of this")]

use std::path::{Path, PathBuf};

/// The folder of shared data of this name, if it is here; otherwise a line says that it is not.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let set = std::env::var_os("SELVEDGE_SHARED_DATA").map(|folder| PathBuf::from(folder).join(name));
    let near =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/data").join(name));
    let found = set.into_iter().chain(near).find(|folder| folder.is_dir());
    if found.is_none() {
        println!("skipped: shared/data/{name} is not here");
    }
    found
}
