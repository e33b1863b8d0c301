//! Whether the published log stands: the checkpoint's signature, the tree under it, and the last entries, in the depot
//! and in the database.
//!
//! This is what a page can say of its own hub. Who does not believe the hub asks from outside: `selvedge audit verify`.

use package::tlog::note::{Checkpoint, NOTE_MAX_BYTES, NoteKey};
use package::tlog::tile::{Content, Tile, TileError};
use package::tlog::{TILE_HEIGHT, TILE_WIDTH, Tree, leaf_hash, root_of};
use sqlx::Row as _;
use wire::hash::Hash;

use crate::audit::publish::{BUNDLE_MAX_BYTES, PublishError, taken_up};
use crate::audit::witness::CHECKPOINT;
use crate::depot::{Depot, Key};
use crate::store::connection::Readers;

/// How many of the last entries are looked at one by one, rounded up to whole tiles.
pub const LAST: u64 = 1000;

/// Why the log does not stand.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint, or the tiles under it.
    #[error(transparent)]
    Published(#[from] PublishError),
    /// A published entry is not what its hash says.
    #[error("entry {id} of the published log is not what its tile of hashes says")]
    Entry {
        /// Which.
        id: u64,
    },
    /// The database has another entry.
    #[error("entry {id} in the database is not what was published")]
    Stored {
        /// Which.
        id: u64,
    },
}

/// A log that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How far it is published.
    pub checkpoint: Checkpoint,
    /// The first entry that was looked at.
    pub from: u64,
    /// Entries that the database has and the log has not yet.
    pub to_come: u64,
}

/// Looks at the log; `None` before anything was published.
pub async fn verify(
    readers: &Readers,
    depot: &Depot,
    key: &NoteKey,
) -> Result<Option<Verified>, VerifyError> {
    let note = depot.read(&Key::log(CHECKPOINT), NOTE_MAX_BYTES as u64).await.map_err(PublishError::from)?;
    let Some(note) = note else { return Ok(None) };
    let checkpoint = Checkpoint::open(&note, key).map_err(PublishError::OtherKey)?;
    let size = checkpoint.size;
    taken_up(depot, &checkpoint).await?;
    let first = size.saturating_sub(LAST) / TILE_WIDTH;
    for number in first..size.div_ceil(TILE_WIDTH) {
        let leaves = leaves(depot, size, number).await?;
        published(depot, number, &leaves).await?;
        stored(readers, number, &leaves).await?;
    }
    let newest = sqlx::query("SELECT id FROM audit ORDER BY id DESC LIMIT 1").fetch_optional(readers).await;
    let newest = newest.map_err(PublishError::from)?.map(|row| row.try_get::<i64, _>(0)).transpose();
    let stored = newest.map_err(PublishError::from)?.unwrap_or(0) as u64;
    if stored < size {
        return Err(PublishError::SetBack { published: size, stored }.into());
    }
    Ok(Some(Verified { checkpoint, from: first * TILE_WIDTH + 1, to_come: stored - size }))
}

/// The hashes of a tile's entries, proven up to a tile at the edge, from which the root was made.
async fn leaves(depot: &Depot, size: u64, number: u64) -> Result<Vec<Hash>, PublishError> {
    let leaves = hashes(depot, size, 0, number).await?;
    let (mut level, mut number, mut under) = (0, number, leaves.clone());
    while under.len() as u64 == TILE_WIDTH {
        let above = hashes(depot, size, level + 1, number / TILE_WIDTH).await?;
        if above.get((number % TILE_WIDTH) as usize) != Some(&root_of(&under)) {
            return Err(PublishError::OtherRoot);
        }
        (level, number, under) = (level + 1, number / TILE_WIDTH, above);
    }
    Ok(leaves)
}

async fn hashes(depot: &Depot, size: u64, level: u8, number: u64) -> Result<Vec<Hash>, PublishError> {
    let is_full = number < size >> (TILE_HEIGHT * (u32::from(level) + 1));
    let edge = Tree::widths(size).get(usize::from(level)).copied().unwrap_or(0);
    let tile =
        Tile { content: Content::Hashes(level), number, width: if is_full { TILE_WIDTH } else { edge } };
    let bytes = depot.read(&Key::log(&tile.to_string()), TILE_WIDTH * 32).await?;
    let bytes = bytes.ok_or(PublishError::Missing { tile })?;
    tile.hashes(&bytes).map_err(|source: TileError| PublishError::Damaged { tile, source })
}

/// The entries in the depot beside a tile of their hashes.
async fn published(depot: &Depot, number: u64, leaves: &[Hash]) -> Result<(), VerifyError> {
    let tile = Tile { content: Content::Entries, number, width: leaves.len() as u64 };
    let bytes =
        depot.read(&Key::log(&tile.to_string()), BUNDLE_MAX_BYTES).await.map_err(PublishError::from)?;
    let bytes = bytes.ok_or(PublishError::Missing { tile })?;
    let entries = tile.entries(&bytes).map_err(|source| PublishError::Damaged { tile, source })?;
    let differs = entries.iter().zip(leaves).position(|(entry, leaf)| leaf_hash(entry) != *leaf);
    differs.map_or(Ok(()), |at| Err(VerifyError::Entry { id: number * TILE_WIDTH + at as u64 + 1 }))
}

/// The entries in the database beside the same hashes.
async fn stored(readers: &Readers, number: u64, leaves: &[Hash]) -> Result<(), VerifyError> {
    let first = number * TILE_WIDTH;
    let rows = sqlx::query("SELECT id, body FROM audit WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = rows.bind(first as i64).bind(leaves.len() as i64).fetch_all(readers).await;
    let rows = rows.map_err(PublishError::from)?;
    for (at, leaf) in leaves.iter().enumerate() {
        let id = first + at as u64 + 1;
        let same = rows.get(at).is_some_and(|row| {
            let body = row.try_get::<String, _>("body");
            row.try_get::<i64, _>("id").is_ok_and(|found| found as u64 == id)
                && body.is_ok_and(|body| leaf_hash(body.as_bytes()) == *leaf)
        });
        if !same {
            return Err(VerifyError::Stored { id });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use package::tlog::note::NoteSigner;

    use super::*;
    use crate::audit::publish::publish;
    use crate::store;
    use crate::store::audit::{self, Entry};

    #[tokio::test]
    async fn a_log_stands_until_somebody_touches_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store::open(folder.path(), None).await.unwrap();
        let (depot, signer) = (Depot::memory(), NoteSigner::from_seed("selvedge/test", &[1; 32]).unwrap());
        let key = signer.key();
        assert_eq!(verify(&store.readers, &depot, key).await.unwrap(), None);
        for (until, from) in [(3, 1), (256, 1), (1400, 257)] {
            let have = sqlx::query("SELECT COUNT(*) FROM audit").fetch_one(&store.readers).await.unwrap();
            for at_ms in have.get::<i64, _>(0)..until {
                let (who, act, about) = ("hub".to_owned(), "tick".to_owned(), "clock".to_owned());
                let entry = Entry { at_ms, who, act, about, why: String::new(), before: None, after: None };
                audit::append(&mut store.writer, &entry).await.unwrap();
            }
            publish(&store.readers, &depot, &signer).await.unwrap().unwrap();
            let found = verify(&store.readers, &depot, key).await.unwrap().unwrap();
            assert_eq!((found.checkpoint.size, found.from, found.to_come), (until as u64, from, 0));
        }
        let other = NoteSigner::from_seed("selvedge/test", &[2; 32]).unwrap();
        assert!(verify(&store.readers, &depot, other.key()).await.is_err(), "another key");
        let tile = Tile { content: Content::Entries, number: 5, width: 120 };
        let path = Key::log(&tile.to_string());
        let bundle = depot.read(&path, BUNDLE_MAX_BYTES).await.unwrap().unwrap();
        let mut changed = bundle.to_vec();
        let last = changed.len() - 2;
        changed[last] ^= 1;
        depot.replace(&path, Some(&bundle), changed.clone().into()).await.unwrap();
        let error = verify(&store.readers, &depot, key).await.unwrap_err();
        assert!(matches!(error, VerifyError::Entry { id: 1400 }), "{error}");
        depot.replace(&path, Some(&changed.into()), bundle).await.unwrap();
        let change = sqlx::query("UPDATE audit SET body = 'x' WHERE id = 1000");
        change.execute(&mut store.writer).await.unwrap();
        let error = verify(&store.readers, &depot, key).await.unwrap_err();
        assert!(matches!(error, VerifyError::Stored { id: 1000 }), "{error}");
    }
}
