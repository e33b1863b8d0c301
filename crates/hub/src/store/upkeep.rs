//! A database in a person's hands: a copy to keep, whether all of it fits, and its free space given back.

use std::fs::File;
use std::path::{Path, PathBuf};

use sqlx::{Row, raw_sql};
use wire::hash::Hash;

use crate::chains::{Chains, Verified};
use crate::store::archives;
use crate::store::connection::{Readers, StoredRow, Writer};
use crate::store::records::{self, RecordRow};

/// How many rows are read at once.
const PAGE: i64 = 2000;

/// A copy that was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something.
    #[error("{0} is there already; a backup never takes the place of another")]
    There(PathBuf),
    /// The database.
    #[error("the database cannot be copied to {path}")]
    Copy {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The disk.
    #[error("{path} cannot be made durable")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Copies a database file as it is at this moment, while a hub may write to it. The copy has its name only once it is whole and on
/// disk. Its size in bytes.
pub async fn backup(readers: &Readers, out: &Path) -> Result<u64, BackupError> {
    let disk = |source| BackupError::Disk { path: out.to_owned(), source };
    if out.exists() {
        return Err(BackupError::There(out.to_owned()));
    }
    let mut part = out.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    if part.exists() {
        std::fs::remove_file(&part).map_err(disk)?;
    }
    let copy = sqlx::query("VACUUM INTO $1").bind(part.display().to_string());
    copy.execute(readers).await.map_err(|source| BackupError::Copy { path: out.to_owned(), source })?;
    let file = File::open(&part).map_err(disk)?;
    file.sync_all().map_err(disk)?;
    let bytes = file.metadata().map_err(disk)?.len();
    std::fs::rename(&part, out).map_err(disk)?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk)?;
    Ok(bytes)
}

/// What a look at a whole database found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The chains of nodes.
    pub chains: Verified,
    /// What else is wrong, in words.
    pub faults: Vec<String>,
}

/// Looks at all of it: the file itself, the chain of each stream, and what each has come to.
pub async fn check(readers: &Readers) -> Result<Checked, sqlx::Error> {
    let mut faults = Vec::new();
    let is_file = readers.acquire().await?.backend_name() == "SQLite";
    if is_file {
        for row in sqlx::query("PRAGMA integrity_check(20)").fetch_all(readers).await? {
            let said: String = row.try_get(0)?;
            if said != "ok" {
                faults.push(said);
            }
        }
    }
    // Streams before records, and records before losses: what comes meanwhile is then no fault.
    let mut chains = Chains::default();
    let mut ends = Vec::new();
    for row in sqlx::query(STREAMS).fetch_all(readers).await? {
        let stream = (row.try_get("node")?, row.try_get("journal")?, row.try_get("name")?);
        let base: Option<Vec<u8>> = row.try_get("base_hash")?;
        if let Some(hash) = base.as_deref().and_then(Hash::from_slice) {
            chains.cut(Clone::clone(&stream), row.try_get("base_seq")?, hash);
        }
        let hash: Vec<u8> = row.try_get("hash")?;
        ends.push((stream, row.try_get::<i64, _>("seq")?, Hash::from_slice(&hash)));
    }
    let turn = sqlx::query(
        "SELECT last_record, last_audit, (SELECT COALESCE(MAX(id), 0) FROM records) AS records, \
         (SELECT COALESCE(MAX(id), 0) FROM audit) AS audit, (SELECT COUNT(*) FROM audit) AS entries FROM turn WHERE id = 1",
    );
    let turn = turn.fetch_one(readers).await?;
    let number = |name: &str| turn.try_get::<i64, _>(name);
    let newest = number("last_record")?;
    if number("records")? > newest {
        faults.push("records have higher numbers than were drawn".to_owned());
    }
    if number("audit")? != number("last_audit")? || number("entries")? != number("last_audit")? {
        faults.push("the audit log does not end where it should, or has a hole".to_owned());
    }
    let mut after = 0;
    loop {
        let page = archives::gaps(readers, after, PAGE).await?;
        let Some(last) = page.last().map(|gap| gap.id) else { break };
        after = last;
        for gap in page {
            let hash = Hash::from_slice(&gap.hash);
            chains.gap((gap.node, gap.journal, gap.stream), (gap.first, gap.last), hash);
        }
    }
    let mut after = 0;
    loop {
        let page: Vec<RecordRow> = records::after(readers, after, PAGE).await?;
        let Some(last) = page.last().map(|record| record.id) else { break };
        after = last;
        page.iter().filter(|record| record.id <= newest).for_each(|record| chains.record(record));
        if last >= newest {
            break;
        }
    }
    for (stream, seq, hash) in ends {
        let is_there = match chains.at(&stream) {
            Some((at, told)) => at > seq || at == seq && Some(told) == hash,
            None => false,
        };
        if seq > 0 && !is_there {
            let (node, journal, name) = stream;
            faults.push(format!("{node}/{journal}/{name} does not end where the hub has told its node"));
        }
    }
    Ok(Checked { chains: chains.end(), faults })
}

const STREAMS: &str = "SELECT n.name AS node, j.name AS journal, s.name, s.seq, s.hash, s.base_seq, s.base_hash \
    FROM streams s JOIN nodes n ON n.id = s.node JOIN journals j ON j.id = s.journal";

/// Gives a file's free space back. Nobody else may have it open; it takes as much space again while it runs.
pub async fn compact(writer: &mut Writer) -> Result<(), sqlx::Error> {
    raw_sql("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").execute(writer).await?;
    Ok(())
}

/// How many bytes of a file are free inside it.
pub async fn free_bytes(readers: &Readers) -> Result<i64, sqlx::Error> {
    let read = |row: StoredRow| row.try_get::<i64, _>(0);
    let pages = read(sqlx::query("PRAGMA freelist_count").fetch_one(readers).await?)?;
    let size = read(sqlx::query("PRAGMA page_size").fetch_one(readers).await?)?;
    Ok(pages.saturating_mul(size))
}
