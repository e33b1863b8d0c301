//! Brings the audit log into the depot, as <https://c2sp.org/tlog-tiles> has it: bundles of entries, tiles of hashes, then the
//! checkpoint that names their root.
//!
//! What was published is what counts: each time the tree is taken up from the depot's own tiles, and what the database adds to
//! it must fit. So a database that was changed, or set back to a backup, publishes nothing more, and says so. The checkpoint is put
//! in the place of exactly the one before: of several hubs on one database one is first, and the others have nothing to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use package::tlog::note::{Checkpoint, NOTE_MAX_BYTES, NoteError, NoteSigner};
use package::tlog::tile::{Content, Tile, TileError, entries_to_bytes, hashes_to_bytes};
use package::tlog::{TILE_HEIGHT, TILE_WIDTH, Tree, WrongEdge, leaf_hash};
use sqlx::Row as _;
use wire::hash::Hash;

use crate::audit::witness::CHECKPOINT;
use crate::depot::{Depot, DepotError, Key};
use crate::replica::Lease;
use crate::state::{HubState, stopped};
use crate::store::connection::Readers;

/// How long between two looks. An act is in the published log a minute later.
const REST: Duration = Duration::from_secs(60);

/// The most entries that one checkpoint adds; more go on at once.
const STEP_ENTRIES: u64 = 16 * TILE_WIDTH;

/// The most bytes of a bundle: 256 entries of 65 535 bytes, and their lengths.
pub const BUNDLE_MAX_BYTES: u64 = TILE_WIDTH * (65_535 + 2);

/// Why the log was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The depot.
    #[error(transparent)]
    Depot(#[from] DepotError),
    /// The database.
    #[error("the audit log cannot be read from the database")]
    Store(#[from] sqlx::Error),
    /// The checkpoint in the depot is not ours.
    #[error(
        "the checkpoint in the depot was not signed with this hub's audit key: name that key in [audit], or choose another depot"
    )]
    OtherKey(#[source] NoteError),
    /// A tile of the published log is not there.
    #[error("{tile} of the published audit log is gone from the depot")]
    Missing {
        /// Which.
        tile: Tile,
    },
    /// A tile of the published log holds something else.
    #[error("{tile} of the published audit log is damaged")]
    Damaged {
        /// Which.
        tile: Tile,
        /// What is wrong with it.
        source: TileError,
    },
    /// The tiles do not fit each other.
    #[error("the tiles of the published audit log do not fit its size")]
    Edge(#[from] WrongEdge),
    /// The tiles of the published log do not lead to its root.
    #[error("the tiles of the published audit log do not lead to the root of its checkpoint")]
    OtherRoot,
    /// The database has fewer entries than were published.
    #[error(
        "log-forked: {published} entries of the audit log are published, and the database has {stored}: it was set back"
    )]
    SetBack {
        /// Entries of the published log.
        published: u64,
        /// Entries of the database.
        stored: u64,
    },
    /// The database has other entries than were published, or a hole.
    #[error(
        "log-forked: entry {id} of the audit log is not what was published or appended: the database was changed"
    )]
    Changed {
        /// The number in the database.
        id: u64,
    },
    /// An entry that no log takes.
    #[error("an entry of the audit log cannot be published")]
    Entry(#[source] TileError),
    /// The note.
    #[error("the checkpoint cannot be signed")]
    Note(#[source] NoteError),
}

/// Publishes what is new, again and again, until the hub stops.
pub async fn tend(state: Arc<HubState>, signer: NoteSigner) {
    let mut stopping = state.stopping.clone();
    let mut told = String::new();
    let mut starts = true;
    loop {
        // Of several hubs one is enough; were there two, one would be first. Who starts publishes what was left by whoever died.
        let published = match std::mem::take(&mut starts) || state.replica.holds(Lease::Audit) {
            true => publish(&state.readers, &state.depot, &signer).await,
            false => Ok(None),
        };
        match published {
            Ok(None) => {}
            Ok(Some(checkpoint)) => {
                told.clear();
                tracing::info!(entries = checkpoint.size, "the audit log is published");
                if checkpoint.size.is_multiple_of(STEP_ENTRIES) {
                    continue; // there may be more
                }
            }
            Err(error) => {
                let mut why = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    why = format!("{why}: {cause}");
                    source = cause.source();
                }
                if why != told {
                    tracing::error!(why, "the audit log is not published");
                    told = why;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

/// Publishes entries that are not yet, up to `STEP_ENTRIES`: the new checkpoint; `None` if there is nothing new, or another hub
/// was first.
pub async fn publish(
    readers: &Readers,
    depot: &Depot,
    signer: &NoteSigner,
) -> Result<Option<Checkpoint>, PublishError> {
    let key = Key::log(CHECKPOINT);
    let before = depot.read(&key, NOTE_MAX_BYTES as u64).await?;
    let mut tree = match &before {
        None => Tree::default(),
        Some(note) => {
            let checkpoint = Checkpoint::open(note, signer.key()).map_err(PublishError::OtherKey)?;
            taken_up(depot, &checkpoint).await?
        }
    };
    let published = tree.size();
    let newest = sqlx::query("SELECT id FROM audit ORDER BY id DESC LIMIT 1").fetch_optional(readers).await?;
    let stored = newest.map(|row| row.try_get::<i64, _>(0)).transpose()?.unwrap_or(0) as u64;
    if stored < published {
        return Err(PublishError::SetBack { published, stored });
    }
    // Whole steps, so that the tail of a long log is not published a bit at a time.
    let until = stored.min((published / STEP_ENTRIES + 1) * STEP_ENTRIES);
    if until == published {
        return Ok(None);
    }
    let mut tiles = append(readers, &mut tree, until).await?;
    for (level, number, hashes) in tree.partial() {
        tiles.insert(Tile { content: Content::Hashes(level), number, width: hashes.len() as u64 }, hashes);
    }
    for tile in Tile::new_of(published, until) {
        let bytes = match tile.content {
            Content::Entries => {
                let beside = Tile { content: Content::Hashes(0), ..tile };
                bundle(readers, &tile, tiles.get(&beside)).await?
            }
            Content::Hashes(_) => hashes_to_bytes(tiles.get(&tile).map_or(&[], Vec::as_slice)),
        };
        depot.put(&Key::log(&tile.to_string()), bytes.into()).await?;
    }
    let checkpoint = Checkpoint { origin: signer.key().name().to_owned(), size: until, root: tree.root() };
    let note = signer.sign(&checkpoint.text()).map_err(PublishError::Note)?;
    let is_first = depot.replace(&key, before.as_ref(), Bytes::from(note)).await?;
    Ok(is_first.then_some(checkpoint))
}

/// The tree of a published log, from its tiles.
pub(super) async fn taken_up(depot: &Depot, checkpoint: &Checkpoint) -> Result<Tree, PublishError> {
    let mut levels = Vec::new();
    for (level, width) in Tree::widths(checkpoint.size).into_iter().enumerate() {
        if width == 0 {
            levels.push(Vec::new());
            continue;
        }
        let number = checkpoint.size >> (TILE_HEIGHT * (level as u32 + 1));
        let tile = Tile { content: Content::Hashes(level as u8), number, width };
        let bytes = depot.read(&Key::log(&tile.to_string()), TILE_WIDTH * 32).await?;
        let bytes = bytes.ok_or(PublishError::Missing { tile })?;
        levels.push(tile.hashes(&bytes).map_err(|source| PublishError::Damaged { tile, source })?);
    }
    let tree = Tree::of(checkpoint.size, levels)?;
    if tree.root() == checkpoint.root { Ok(tree) } else { Err(PublishError::OtherRoot) }
}

/// Appends the entries of the database up to the number `until`: the tiles that are full now.
pub(super) async fn append(
    readers: &Readers,
    tree: &mut Tree,
    until: u64,
) -> Result<BTreeMap<Tile, Vec<Hash>>, PublishError> {
    let mut full = BTreeMap::new();
    while tree.size() < until {
        let (from, least) = (tree.size() as i64, (until - tree.size()).min(TILE_WIDTH) as i64);
        let rows = sqlx::query("SELECT id, leaf FROM audit WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = rows.bind(from).bind(least).fetch_all(readers).await?;
        if rows.is_empty() {
            return Err(PublishError::Changed { id: tree.size() + 1 });
        }
        for row in rows {
            let id = tree.size() + 1;
            let leaf = Hash::from_slice(&row.try_get::<Vec<u8>, _>("leaf")?);
            let leaf = leaf.filter(|_| row.try_get::<i64, _>("id").is_ok_and(|found| found as u64 == id));
            for (level, number, hashes) in tree.push(leaf.ok_or(PublishError::Changed { id })?) {
                let tile = Tile { content: Content::Hashes(level), number, width: TILE_WIDTH };
                full.insert(tile, hashes);
            }
        }
    }
    Ok(full)
}

/// The entries beside a tile of their hashes.
async fn bundle(readers: &Readers, tile: &Tile, leaves: Option<&Vec<Hash>>) -> Result<Vec<u8>, PublishError> {
    let first = tile.number * TILE_WIDTH;
    let rows = sqlx::query("SELECT body FROM audit WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = rows.bind(first as i64).bind(tile.width as i64).fetch_all(readers).await?;
    let bodies: Vec<String> = rows.iter().map(|row| row.try_get("body")).collect::<Result<_, _>>()?;
    let leaves = leaves.map_or(&[][..], Vec::as_slice);
    let differs = |at: &usize| {
        let found = bodies.get(*at).map(|body| leaf_hash(body.as_bytes()));
        found.as_ref() != leaves.get(*at) || found.is_none()
    };
    if let Some(at) = (0..tile.width as usize).find(differs) {
        return Err(PublishError::Changed { id: first + at as u64 + 1 });
    }
    entries_to_bytes(&bodies).map_err(PublishError::Entry)
}

#[cfg(test)]
mod tests {
    use package::tlog::proof::{check_consistency, consistency, inclusion, root, tile_of};
    use package::tlog::root_of;

    use super::*;
    use crate::store;
    use crate::store::audit::{self, Entry};
    use crate::store::connection::Writer;

    async fn act(writer: &mut Writer, at_ms: i64) {
        let word = |text: &str| text.to_owned();
        let (who, act, about) = (word("operator:ann"), word("rollout.start"), word("9f3c"));
        let entry = Entry { at_ms, who, act, about, why: String::new(), before: None, after: None };
        audit::append(writer, &entry).await.unwrap();
    }

    /// Hashes of complete subtrees of the log of `size` entries, from the depot's tiles alone.
    async fn tiles(depot: &Depot, size: u64) -> BTreeMap<Tile, Vec<Hash>> {
        let mut found = BTreeMap::new();
        for tile in Tile::new_of(0, size).into_iter().filter(|tile| tile.content != Content::Entries) {
            let bytes = depot.read(&Key::log(&tile.to_string()), 8192).await.unwrap().unwrap();
            found.insert(tile, tile.hashes(&bytes).unwrap());
        }
        found
    }

    fn at(tiles: &BTreeMap<Tile, Vec<Hash>>, level: u32, number: u64) -> Hash {
        let (level, number, range) = tile_of(level, number);
        let held = |tile: &&Tile| tile.content == Content::Hashes(level) && tile.number == number;
        let tile = tiles.keys().filter(held).max_by_key(|tile| tile.width).unwrap();
        root_of(&tiles[tile][range])
    }

    #[tokio::test]
    async fn a_log_grows_and_proves_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store::open(folder.path(), None).await.unwrap();
        let depot = Depot::memory();
        let signer = NoteSigner::from_seed("selvedge/test", &[1; 32]).unwrap();
        assert_eq!(publish(&store.readers, &depot, &signer).await.unwrap(), None);
        let (mut old, mut roots) = (0, Vec::new());
        for size in [1, 2, 256, 300, 700] {
            for at_ms in old..size {
                act(&mut store.writer, at_ms).await;
            }
            let checkpoint = publish(&store.readers, &depot, &signer).await.unwrap().unwrap();
            assert_eq!(publish(&store.readers, &depot, &signer).await.unwrap(), None, "nothing is new");
            let note = depot.read(&Key::log(CHECKPOINT), 4096).await.unwrap().unwrap();
            assert_eq!(Checkpoint::open(&note, signer.key()), Ok(checkpoint.clone()));
            let tiles = tiles(&depot, checkpoint.size).await;
            let source = &mut |level, number| Ok::<_, ()>(at(&tiles, level, number));
            assert_eq!(root(checkpoint.size, source), Ok(checkpoint.root));
            for (before, root) in &roots {
                let proof = consistency(*before, checkpoint.size, source).unwrap();
                let sound = check_consistency(*before, root, checkpoint.size, &checkpoint.root, &proof);
                assert_eq!(sound, Ok(()), "{before} of {size}");
            }
            assert!(inclusion(checkpoint.size, 0, source).unwrap().len() <= 10);
            roots.push((checkpoint.size, checkpoint.root));
            old = size;
        }
        let bundle = Tile::parse("tile/entries/002.p/188").unwrap();
        let bytes = depot.read(&Key::log(&bundle.to_string()), BUNDLE_MAX_BYTES).await.unwrap().unwrap();
        let last = String::from_utf8(bundle.entries(&bytes).unwrap()[187].to_vec()).unwrap();
        assert!(last.contains("\"at_ms\":699"), "{last}");
    }

    #[tokio::test]
    async fn what_was_published_is_never_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store::open(folder.path(), None).await.unwrap();
        let depot = Depot::memory();
        let signer = NoteSigner::from_seed("selvedge/test", &[1; 32]).unwrap();
        for at_ms in 0..5 {
            act(&mut store.writer, at_ms).await;
        }
        publish(&store.readers, &depot, &signer).await.unwrap().unwrap();
        let other = NoteSigner::from_seed("selvedge/test", &[2; 32]).unwrap();
        let refused = publish(&store.readers, &depot, &other).await.unwrap_err();
        assert!(matches!(refused, PublishError::OtherKey(_)), "{refused}");
        act(&mut store.writer, 5).await;
        // An old entry is changed, and its leaf with it: it does not fit what was published.
        let run = |sql: &'static str| sqlx::query(sql);
        run("UPDATE audit SET body = 'x' WHERE id = 3").execute(&mut store.writer).await.unwrap();
        let refused = publish(&store.readers, &depot, &signer).await.unwrap_err();
        assert!(matches!(refused, PublishError::Changed { id: 3 }), "{refused}");
        run("DELETE FROM audit WHERE id > 2").execute(&mut store.writer).await.unwrap();
        let refused = publish(&store.readers, &depot, &signer).await.unwrap_err();
        assert!(matches!(refused, PublishError::SetBack { published: 5, stored: 2 }), "{refused}");
    }
}
