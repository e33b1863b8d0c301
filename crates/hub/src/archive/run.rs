//! Writes days that are over into the archive, under a lease, from the connections that read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use package::trust::canonical::Value;
use sqlx::Row as _;
use wire::class::Class;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::archive::table::{self, TableError};
use crate::config::HubConfig;
use crate::depot::{Depot, DepotError, Key, off_the_loop};
use crate::replica::Lease;
use crate::state::{HubState, stopped};
use crate::store::archives::{self, ArchiveRow, LossRow};
use crate::store::audit::{self, Entry};
use crate::store::buckets::{self, DAY_MS, bucket, day_of, show_day};
use crate::store::connection::Readers;
use crate::store::records::RecordRow;
use crate::store::time;
use crate::write::NotWritten;
use crate::writer::WriterHandle;

/// How often is looked for days that are over.
const EVERY: Duration = Duration::from_secs(3600);

/// How long after a start.
const FIRST: Duration = Duration::from_secs(60);

/// The most rows of a file.
const FILE_ROWS: usize = 65_536;

/// The most bytes of bodies in a file: what is in memory at once is a few times that.
const FILE_BYTES: usize = 32 << 20;

/// How many rows are read at once.
const PAGE: i64 = 2000;

/// Why a day was not written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The database.
    #[error("what belongs into the archive cannot be read from the database")]
    Store(#[from] sqlx::Error),
    /// The file.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Making the file.
    #[error("a file of the archive could not be made")]
    Stopped(#[source] std::io::Error),
    /// The depot.
    #[error(transparent)]
    Depot(#[from] DepotError),
    /// The writer.
    #[error("a file of the archive could not be noted")]
    NotWritten(#[from] NotWritten),
}

/// Looks again and again, until the hub stops, if there shall be an archive.
pub async fn tend(state: Arc<HubState>) {
    if !state.config.archive.on {
        return;
    }
    let mut stopping = state.stopping.clone();
    let mut rest = FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => rest = EVERY,
            () = stopped(&mut stopping) => return,
        }
        let may = || state.replica.holds(Lease::Archive) && !*state.stopping.borrow();
        if may() {
            look(&state, &may).await;
        }
        // Every hub says it: whoever should write may be the one that cannot.
        match behind(&state.readers, &state.config, state.now_ms()).await {
            Ok(days) => state.metrics.archive_behind(days),
            Err(error) => tracing::error!(%error, "how far the archive is behind is not known"),
        }
    }
}

/// Writes what is due, and says how that went.
async fn look(state: &HubState, may: &(dyn Fn() -> bool + Sync)) {
    match go(&state.readers, &state.writer, &state.depot, &state.config, state.now_ms(), may).await {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "old records are in the archive"),
        Err(error) => {
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, why, "the archive is not written");
        }
    }
}

/// How many days ago the oldest day became due of which records are not in the archive, counting from 1; 0: all that is due is
/// there.
pub async fn behind(readers: &Readers, config: &HubConfig, hub_ms: WallMs) -> Result<i64, sqlx::Error> {
    let now_ms = time::now(&mut *readers.acquire().await?, hub_ms).await?;
    let last_day = day_of(now_ms) - 1 - config.archive.after.get();
    let days = ended(readers, last_day).await?;
    let mut oldest = last_day + 1;
    for class in Class::ALL {
        let reaches = archives::reaches(readers, class.as_str()).await?;
        for &(day, (first, last)) in days.iter().filter(|(day, _)| *day < oldest) {
            let first = first.max(reaches + 1);
            if first <= last
                && !archives::records(readers, bucket(class, day), (first, last), 1).await?.is_empty()
            {
                oldest = day;
                break;
            }
        }
    }
    Ok(last_day + 1 - oldest)
}

/// Writes what is due; how many files that were. `may`: whether this is still for this hub to do.
pub async fn go(
    readers: &Readers,
    writer: &WriterHandle,
    depot: &Depot,
    config: &HubConfig,
    hub_ms: WallMs,
    may: &(dyn Fn() -> bool + Sync),
) -> Result<u64, ArchiveError> {
    let now_ms = time::now(&mut *readers.acquire().await?, hub_ms).await?;
    let last_day = day_of(now_ms) - 1 - config.archive.after.get();
    let days = ended(readers, last_day).await?;
    let shelf = Shelf { readers, writer, depot, now_ms };
    let mut files = shelf.gaps((last_day + 1).saturating_mul(DAY_MS)).await?;
    for class in Class::ALL {
        let mut reaches = archives::reaches(readers, class.as_str()).await?;
        for &(day, (first, last)) in &days {
            let mut first = first.max(reaches + 1);
            while first <= last && may() {
                let (rows, until) = shelf.records(bucket(class, day), (first, last)).await?;
                if rows.is_empty() {
                    break;
                }
                shelf.keep(class, day, rows, reaches, until).await?;
                (files, reaches, first) = (files + 1, until, until + 1);
            }
        }
    }
    Ok(files)
}

/// The days that are over, with the numbers of their first and last records, in the order in which they were. A day that a wrong
/// clock told is over when a right one follows.
async fn ended(readers: &Readers, last_day: i64) -> Result<Vec<(i64, (i64, i64))>, sqlx::Error> {
    let newest = sqlx::query("SELECT last_record FROM turn WHERE id = 1").fetch_one(readers).await?;
    let newest: i64 = newest.try_get(0)?;
    let days = buckets::days(readers).await?;
    let ended = days.iter().rposition(|row| row.day <= last_day).map_or(0, |at| at + 1);
    let ends = days.iter().skip(1).map(|next| next.first - 1).chain([newest]);
    Ok(days.iter().zip(ends).take(ended).map(|(row, end)| (row.day, (row.first, end))).collect())
}

/// What a look works with.
struct Shelf<'a> {
    readers: &'a Readers,
    writer: &'a WriterHandle,
    depot: &'a Depot,
    now_ms: WallMs,
}

impl Shelf<'_> {
    /// The records of a file, and up to which number it has all of its bucket.
    async fn records(
        &self,
        bucket: i64,
        (first, last): (i64, i64),
    ) -> Result<(Vec<RecordRow>, i64), ArchiveError> {
        let (mut rows, mut bytes, mut from): (Vec<RecordRow>, usize, i64) = (Vec::new(), 0, first);
        loop {
            let page = archives::records(self.readers, bucket, (from, last), PAGE).await?;
            let is_last = (page.len() as i64) < PAGE;
            bytes += page.iter().map(|row| row.body.len()).sum::<usize>();
            rows.extend(page);
            let until = rows.last().map_or(last, |row| row.id);
            if is_last {
                return Ok((rows, last));
            }
            if rows.len() + PAGE as usize > FILE_ROWS || bytes > FILE_BYTES {
                return Ok((rows, until));
            }
            from = until + 1;
        }
    }

    /// Writes a file of records.
    async fn keep(
        &self,
        class: Class,
        day: i64,
        rows: Vec<RecordRow>,
        reaches: i64,
        until: i64,
    ) -> Result<(), ArchiveError> {
        let (first, last) = (rows.first().map_or(0, |row| row.id), rows.last().map_or(0, |row| row.id));
        let folder = [format!("class={class}"), format!("day={}", show_day(day))];
        let key =
            Key::archive(&["records", &folder[0], &folder[1], &format!("{first:020}-{last:020}.parquet")]);
        let count = rows.len();
        let file = off_the_loop(move || Ok(table::from_records(&rows))).await;
        self.put(key, file.map_err(ArchiveError::Stopped)??, class.as_str(), (reaches, first, until), count)
            .await
    }

    /// Writes losses of which the hub learnt before `before_ms`; how many files that were.
    async fn gaps(&self, before_ms: WallMs) -> Result<u64, ArchiveError> {
        let mut files = 0;
        loop {
            let reaches = archives::reaches(self.readers, "gaps").await?;
            let page = archives::gaps(self.readers, reaches, PAGE).await?;
            let Some(day) = page.first().map(|row| day_of(row.noted_ms)) else { return Ok(files) };
            let due = |row: &LossRow| row.noted_ms < before_ms && day_of(row.noted_ms) == day;
            let rows: Vec<LossRow> = page.into_iter().take_while(due).collect();
            let (Some(first), Some(last)) = (rows.first().map(|row| row.id), rows.last().map(|row| row.id))
            else {
                return Ok(files);
            };
            let name = format!("{first:020}-{last:020}.parquet");
            let key = Key::archive(&["gaps", &format!("day={}", show_day(day)), &name]);
            let file = table::from_gaps(&rows)?;
            self.put(key, file, "gaps", (reaches, first, last), rows.len()).await?;
            files += 1;
        }
    }

    /// Puts a file where none is, and notes it, unless another hub has noted one meanwhile.
    async fn put(
        &self,
        key: Key,
        file: Vec<u8>,
        class: &str,
        (reaches, first, last): (i64, i64, i64),
        count: usize,
    ) -> Result<(), ArchiveError> {
        let (hash, bytes) = (Hash::of(&file), file.len() as i64);
        let file = Bytes::from(file);
        if !self.depot.put_if_absent(&key, file.clone()).await? {
            // A hub that died before it was noted has left it; another version may compress in another way.
            let there = self.depot.read(&key, u64::MAX).await?;
            if there.as_ref() != Some(&file) {
                self.depot.replace(&key, there.as_ref(), file).await?;
            }
        }
        let told = Value::object([
            ("sha256", hash.to_string().into()),
            ("bytes", (bytes as u64).into()),
            ("rows", (count as u64).into()),
            ("first", (first as u64).into()),
            ("last", (last as u64).into()),
        ]);
        let entry = Entry {
            at_ms: self.now_ms,
            who: "hub".to_owned(),
            act: "archive.write".to_owned(),
            about: key.to_string(),
            why: String::new(),
            before: None,
            after: Some(told),
        };
        let row = ArchiveRow {
            path: key.to_string(),
            class: class.to_owned(),
            first,
            last,
            count: count as i64,
            bytes,
            hash: hash.to_string(),
            at_ms: self.now_ms,
        };
        let noted = self.writer.within(move |writer| {
            Box::pin(async move {
                if archives::add(writer, &row, reaches).await? {
                    audit::append(writer, &entry).await?;
                }
                Ok(())
            })
        });
        Ok(noted.await?)
    }
}
