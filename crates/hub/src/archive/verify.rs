//! Holds the chains of nodes against the archive's files alone: each record is hashed again behind the one before it.

use wire::hash::Hash;

use crate::archive::table::{TableError, to_gaps, to_records};
use crate::chains::{Chains, Verified};
use crate::depot::{Depot, DepotError, Key, off_the_loop};

/// The largest file that is read.
const FILE_MAX_BYTES: u64 = 256 << 20;

/// An archive that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The depot.
    #[error(transparent)]
    Depot(#[from] DepotError),
    /// A file in it.
    #[error("{path} of the archive cannot be read")]
    Table {
        /// Which.
        path: String,
        /// Why.
        source: TableError,
    },
    /// A file that ends the reader.
    #[error("{path} of the archive cannot be read at all")]
    Broken {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Checks all of an archive. It takes memory for each stream and each loss, not for records.
pub async fn verify(depot: &Depot) -> Result<Verified, VerifyError> {
    let mut check = Chains::default();
    for path in sorted(depot.paths(&Key::archive(&["gaps"])).await?) {
        for gap in rows(depot, &path, to_gaps).await? {
            let hash = Hash::from_slice(&gap.hash);
            check.gap((gap.node, gap.journal, gap.stream), (gap.first, gap.last), hash);
        }
    }
    for path in sorted(depot.paths(&Key::archive(&["records"])).await?) {
        let class = part(&path, "class=").unwrap_or_default().to_owned();
        for record in rows(depot, &path, move |file| to_records(file, &class)).await? {
            check.record(&record);
        }
    }
    Ok(check.end())
}

async fn rows<T: Send + 'static>(
    depot: &Depot,
    path: &str,
    read: impl FnOnce(bytes::Bytes) -> Result<Vec<T>, TableError> + Send + 'static,
) -> Result<Vec<T>, VerifyError> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let Some(file) = depot.read(&Key::archive(&parts), FILE_MAX_BYTES).await? else { return Ok(Vec::new()) };
    let broken = |source| VerifyError::Broken { path: path.to_owned(), source };
    let rows = off_the_loop(move || Ok(read(file))).await.map_err(broken)?;
    rows.map_err(|source| VerifyError::Table { path: path.to_owned(), source })
}

/// By the number of the first row, which is how records came.
fn sorted(paths: Vec<String>) -> Vec<String> {
    let first = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.split('-').next().and_then(|digits| digits.parse::<u64>().ok())
    };
    let mut paths: Vec<String> = paths.into_iter().filter(|path| path.ends_with(".parquet")).collect();
    paths.sort_by_key(|path| (first(path), path.clone()));
    paths
}

fn part<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    path.split('/').find_map(|part| part.strip_prefix(name))
}
