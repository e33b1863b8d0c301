//! The heads of the nodes' chains, in the log: what each stream had come to, and the hash over all of it.
//!
//! Whoever later shows records of a node can be held to them, the node as well as the hub. A blob of JSON lines, sorted, one for
//! each stream that has moved; its digest goes into the log as an entry.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use package::trust::canonical::Value;
use sqlx::Row as _;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::depot::{Depot, DepotError, Key};
use crate::replica::Lease;
use crate::state::HubState;
use crate::store::audit::{Entry, append};
use crate::store::connection::Readers;

/// An hour.
const HOUR_MS: i64 = 3_600_000;

/// How often it is told.
const EVERY: Duration = Duration::from_millis(HOUR_MS.unsigned_abs());

/// How hard the blob is compressed: hashes do not get smaller, names do.
const LEVEL: i32 = 3;

/// The most bytes of a list: of 10 000 nodes with ten streams each it has some 20 MB.
pub const LINES_MAX_BYTES: u64 = 64 << 20;

/// Why no heads were written.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The database.
    #[error("the heads of the nodes' chains cannot be read from the database")]
    Store(#[from] sqlx::Error),
    /// The blob.
    #[error("the heads of the nodes' chains cannot be compressed")]
    Compress(#[source] std::io::Error),
    /// The depot.
    #[error(transparent)]
    Depot(#[from] DepotError),
}

/// What was in the log before: the last number of each stream.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<i64, i64>);

/// A stream and what it has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    stream: i64,
    node: String,
    journal: String,
    name: String,
    seq: i64,
    hash: Hash,
}

impl Head {
    /// A line of the blob, without its end.
    fn line(&self) -> String {
        let Head { node, journal, name, seq, hash, .. } = self;
        // Names are plain words, by their types.
        format!(r#"{{"hash":"{hash}","journal":"{journal}","node":"{node}","seq":{seq},"stream":"{name}"}}"#)
    }
}

/// Tells the log every hour what has moved, until the hub stops. After a start all of it is told once more.
pub async fn tend(state: Arc<HubState>) {
    let mut stopping = state.stopping.clone();
    let mut told = Told::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
        if !state.replica.holds(Lease::Audit) {
            continue;
        }
        match tell(&state, &told).await {
            Ok(Some(now)) => told = now,
            Ok(None) => {}
            Err(why) => tracing::error!(why, "the heads of the nodes' chains are not in the audit log"),
        }
    }
}

async fn tell(state: &HubState, told: &Told) -> Result<Option<Told>, String> {
    let moved = write(&state.readers, &state.depot, told, state.now_ms()).await;
    let Some((entry, now)) = moved.map_err(|error| error.to_string())? else { return Ok(None) };
    let appended = state.writer.within(move |writer| Box::pin(async move { append(writer, &entry).await }));
    appended.await.map_err(|error| error.to_string())?;
    Ok(Some(now))
}

/// Writes the heads that have moved into the depot: the entry that tells of them, to be appended to the log, and to be remembered
/// by [`Told`] only then. `None` if nothing moved.
pub async fn write(
    readers: &Readers,
    depot: &Depot,
    told: &Told,
    now_ms: WallMs,
) -> Result<Option<(Entry, Told)>, HeadsError> {
    let moved: Vec<Head> = all(readers).await?;
    let moved: Vec<Head> =
        moved.into_iter().filter(|head| told.0.get(&head.stream) != Some(&head.seq)).collect();
    if moved.is_empty() {
        return Ok(None);
    }
    let text: String = moved.iter().map(|head| head.line() + "\n").collect();
    let lines = Hash::of(text.as_bytes());
    let blob = zstd::encode_all(text.as_bytes(), LEVEL).map_err(HeadsError::Compress)?;
    let (hash, bytes) = (Hash::of(&blob), blob.len() as u64);
    // Should two hubs tell of the same hour, neither takes the other's place.
    let name = format!("{}-{}.jsonl.zst", now_ms.div_euclid(HOUR_MS), &hash.to_string()[..16]);
    depot.put(&Key::heads(&name), blob.into()).await?;
    let mut now = Told(told.0.clone());
    now.0.extend(moved.iter().map(|head| (head.stream, head.seq)));
    let after = Value::object([
        ("file", name.clone().into()),
        ("sha256", hash.to_string().into()),
        ("lines", lines.to_string().into()),
        ("bytes", bytes.into()),
        ("streams", (moved.len() as u64).into()),
    ]);
    let entry = Entry::new(now_ms, "hub".to_owned(), "heads", name);
    Ok(Some((Entry { after: Some(after), ..entry }, now)))
}

/// Whether a list of heads may be called so: `494320-0123456789abcdef.jsonl.zst`.
pub fn is_name(name: &str) -> bool {
    let parts = name.strip_suffix(".jsonl.zst").and_then(|name| name.split_once('-'));
    parts.is_some_and(|(hour, hash)| {
        let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash && (1..=9).contains(&hour.len()) && hour.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The lines of a list as it is kept; `None` if it is damaged, or larger than any is.
pub fn lines(blob: &[u8]) -> Option<Vec<u8>> {
    let mut lines = Vec::new();
    let decoder = zstd::Decoder::new(blob).ok()?;
    decoder.take(LINES_MAX_BYTES + 1).read_to_end(&mut lines).ok()?;
    (lines.len() as u64 <= LINES_MAX_BYTES).then_some(lines)
}

/// What every stream has come to: what the node says of itself where that is further than what is here.
async fn all(readers: &Readers) -> Result<Vec<Head>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT s.id, n.name AS node, j.name AS journal, s.name, s.seq, s.hash, s.head_seq, s.head FROM streams s \
         JOIN nodes n ON n.id = s.node JOIN journals j ON j.id = s.journal ORDER BY n.name, j.name, s.name",
    );
    let mut heads = Vec::new();
    for row in rows.fetch_all(readers).await? {
        let (seq, head_seq): (i64, i64) = (row.try_get("seq")?, row.try_get("head_seq")?);
        let own: Option<Vec<u8>> = row.try_get("head")?;
        let here: Vec<u8> = row.try_get("hash")?;
        let (seq, hash) = match own {
            Some(head) if head_seq > seq => (head_seq, head),
            _ => (seq, here),
        };
        let Some(hash) = Hash::from_slice(&hash) else { continue };
        heads.push(Head {
            stream: row.try_get("id")?,
            node: row.try_get("node")?,
            journal: row.try_get("journal")?,
            name: row.try_get("name")?,
            seq,
            hash,
        });
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use package::digest::Digest;

    use super::*;
    use crate::store;

    #[tokio::test]
    async fn what_moved_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store::open(folder.path(), None).await.unwrap();
        let zeros = "zeroblob(32)";
        for sql in [
            "INSERT INTO nodes (id, name, first_seen_ms, last_seen_ms, next_ms) VALUES (1, 'pump-1', 0, 0, 0)".to_owned(),
            "INSERT INTO journals (id, node, name, first_seen_ms) VALUES (1, 1, 'a0', 0)".to_owned(),
            format!(
                "INSERT INTO streams (id, node, journal, name, class, seq, hash) VALUES (1, 1, 1, 'metrics', 'metric', 7, {zeros})"
            ),
            format!(
                "INSERT INTO streams (id, node, journal, name, class, seq, hash) VALUES (2, 1, 1, 'audit', 'audit', 3, {zeros})"
            ),
            "UPDATE streams SET head_seq = 9, head = hash WHERE id = 2".to_owned(),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut store.writer).await.unwrap();
        }
        let depot = Depot::memory();
        let at_ms = 5 * HOUR_MS + 1;
        let (entry, told) = write(&store.readers, &depot, &Told::default(), at_ms).await.unwrap().unwrap();
        assert!(entry.about.starts_with("5-"), "{}", entry.about);
        let blob = depot.read(&Key::heads(&entry.about), 4096).await.unwrap().unwrap();
        let text = String::from_utf8(zstd::decode_all(&blob[..]).unwrap()).unwrap();
        let hash = Hash::GENESIS;
        let expected = format!(
            "{{\"hash\":\"{hash}\",\"journal\":\"a0\",\"node\":\"pump-1\",\"seq\":9,\"stream\":\"audit\"}}\n\
             {{\"hash\":\"{hash}\",\"journal\":\"a0\",\"node\":\"pump-1\",\"seq\":7,\"stream\":\"metrics\"}}\n"
        );
        assert_eq!(text, expected);
        let (digest, of_lines) = (Digest::of(&blob).hex(), Hash::of(text.as_bytes()).to_string());
        assert_eq!(lines(&blob).as_deref(), Some(text.as_bytes()));
        assert!(lines(&blob[1..]).is_none() && is_name(&entry.about));
        for bad in ["", "5-.jsonl.zst", "../5-0123456789abcdef.jsonl.zst", "5-0123456789abcdex.jsonl.zst"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(
            entry.text().contains(&digest)
                && entry.text().contains(&of_lines)
                && entry.text().contains(r#""streams":2"#),
            "{}",
            entry.text()
        );
        assert!(write(&store.readers, &depot, &told, at_ms).await.unwrap().is_none());
        sqlx::query("UPDATE streams SET seq = 8 WHERE id = 1").execute(&mut store.writer).await.unwrap();
        let (entry, _) = write(&store.readers, &depot, &told, at_ms + HOUR_MS).await.unwrap().unwrap();
        assert!(entry.about.starts_with("6-") && entry.text().contains(r#""streams":1"#), "{}", entry.text());
    }
}
