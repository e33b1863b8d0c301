//! Takes the audit log up where it was published, if the database is a backup's and lacks its end.
//!
//! What was published is signed by the log's own key, so it is brought back before anything is written: otherwise the first
//! entry of the restored hub would fork the log for ever. What those entries did is not done again; that they are there is
//! shown ([`crate::recovery`]).

use package::tlog::leaf_hash;
use package::tlog::note::{Checkpoint, NOTE_MAX_BYTES, NoteKey};
use package::tlog::tile::{Content, Tile};
use package::tlog::{TILE_WIDTH, Tree};
use package::trust::canonical::Value;
use sqlx::Connection as _;
use wire::world::WallMs;

use crate::audit::publish::{BUNDLE_MAX_BYTES, PublishError, append};
use crate::audit::witness::CHECKPOINT;
use crate::depot::{Depot, Key};
use crate::store::audit::{self, Entry};
use crate::store::connection::{Readers, Writer};
use crate::store::{recovery, turn};

/// Brings back what the database lacks of the published log: how many entries; 0 if nothing.
pub async fn resume(
    writer: &mut Writer,
    readers: &Readers,
    depot: &Depot,
    key: &NoteKey,
    now_ms: WallMs,
) -> Result<u64, PublishError> {
    let Some(note) = depot.read(&Key::log(CHECKPOINT), NOTE_MAX_BYTES as u64).await? else { return Ok(0) };
    let published = Checkpoint::open(&note, key).map_err(PublishError::OtherKey)?;
    let stored = recovery::stands(readers).await?.1 as u64;
    if stored >= published.size {
        return Ok(0);
    }
    let mut tree = Tree::default();
    append(readers, &mut tree, stored).await?;
    let mut lost = Vec::new();
    for tile in Tile::new_of(stored, published.size) {
        if tile.content != Content::Entries {
            continue;
        }
        let bytes = depot.read(&Key::log(&tile.to_string()), BUNDLE_MAX_BYTES).await?;
        let bytes = bytes.ok_or(PublishError::Missing { tile })?;
        let entries = tile.entries(&bytes).map_err(|source| PublishError::Damaged { tile, source })?;
        let known = stored.saturating_sub(tile.number * TILE_WIDTH) as usize;
        for entry in entries.into_iter().skip(known) {
            tree.push(leaf_hash(entry));
            lost.push(String::from_utf8_lossy(entry).into_owned());
        }
    }
    if tree.root() != published.root {
        return Err(PublishError::Changed { id: stored });
    }
    let mut transaction = writer.begin().await?;
    // The turn first, as in every transaction that writes.
    turn::take(&mut transaction, "").await?;
    let count = audit::bring_back(&mut transaction, stored, &lost).await?;
    if count > 0 {
        recovery::note_lost(&mut transaction, stored, published.size).await?;
        let after = Value::object([("from", (stored + 1).into()), ("to", published.size.into())]);
        let entry = Entry {
            at_ms: now_ms,
            who: "hub".to_owned(),
            act: "log.resume".to_owned(),
            about: "restored from a backup".to_owned(),
            why: "the database lacked entries that were published".to_owned(),
            before: None,
            after: Some(after),
        };
        audit::append(&mut transaction, &entry).await?;
        transaction.commit().await?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use package::tlog::note::NoteSigner;
    use sqlx::Row as _;

    use super::*;
    use crate::audit::publish::publish;
    use crate::store;

    async fn act(writer: &mut Writer, at_ms: i64) {
        let word = |text: &str| text.to_owned();
        let (who, act, about) = (word("operator:ann"), word("deny"), word("pump-1"));
        let entry = Entry { at_ms, who, act, about, why: String::new(), before: None, after: None };
        audit::append(writer, &entry).await.unwrap();
    }

    #[tokio::test]
    async fn a_restored_database_goes_on_where_the_log_was_published() {
        let (folder, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = store::open(folder.path(), None).await.unwrap();
        let mut restored = store::open(older.path(), None).await.unwrap();
        let depot = Depot::memory();
        let signer = NoteSigner::from_seed("selvedge/test", &[1; 32]).unwrap();
        for at_ms in 0..300 {
            act(&mut store.writer, at_ms).await;
            if at_ms < 260 {
                act(&mut restored.writer, at_ms).await;
            }
        }
        publish(&store.readers, &depot, &signer).await.unwrap().unwrap();
        let (writer, readers) = (&mut restored.writer, &restored.readers);
        assert_eq!(resume(writer, readers, &depot, signer.key(), 7).await.unwrap(), 40);
        assert_eq!(resume(writer, readers, &depot, signer.key(), 7).await.unwrap(), 0, "told twice");
        let grown = publish(readers, &depot, &signer).await.unwrap().unwrap();
        assert_eq!(grown.size, 301, "it grows from what was published, with an entry that says so");
        let row = sqlx::query("SELECT at_ms, act, about FROM audit WHERE id = 299");
        let row = row.fetch_one(readers).await.unwrap();
        assert_eq!((row.get::<i64, _>(0), row.get::<String, _>(1)), (298, "deny".to_owned()));
        assert_eq!(recovery::lost(readers).await.unwrap(), Some((260, 300)));

        // A database that went its own way is not continued.
        let third = tempfile::tempdir().unwrap();
        let mut other = store::open(third.path(), None).await.unwrap();
        act(&mut other.writer, 99).await;
        let refused = resume(&mut other.writer, &other.readers, &depot, signer.key(), 7).await;
        assert!(matches!(refused, Err(PublishError::Changed { .. })), "{refused:?}");
    }
}
