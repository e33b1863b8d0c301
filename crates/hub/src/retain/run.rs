//! Carries out what [`crate::retain`] reckons, under a lease: a few thousand rows at a time between the groups of the writer, so
//! that nodes hardly notice. Each bucket's end is an entry in the audit log, written before its first record goes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use package::trust::canonical::Value;
use wire::class::Class;
use wire::world::WallMs;

use crate::config::HubConfig;
use crate::replica::Lease;
use crate::retain::{self, Cuts, JUMP_MS, is_believed};
use crate::state::{HubState, stopped};
use crate::store::audit::{self, Entry};
use crate::store::buckets::{DAY_MS, day_of, first_day, period_days, show_day};
use crate::store::connection::Readers;
use crate::store::retention::{self, Old, Piece};
use crate::store::{archives, partitions, samples, time};
use crate::write::NotWritten;
use crate::writer::WriterHandle;

/// How often what is too old is looked for.
const EVERY: Duration = Duration::from_secs(600);

/// How long after a start.
const FIRST: Duration = Duration::from_secs(30);

/// How many rows go at once: a few milliseconds, for which check-ins wait.
const ROWS: i64 = 2000;

/// How many samples lose their hours at once.
const SAMPLES: i64 = 500;

/// Between two of them, so that others have their turn.
const REST: Duration = Duration::from_millis(20);

/// How lately a node must have been heard of, so that its clock says something.
const HEARD_MS: i64 = 3_600_000;

/// Why nothing more was cut.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    /// The database.
    #[error("what is too old cannot be looked for in the database")]
    Store(#[from] sqlx::Error),
    /// The writer.
    #[error("what is too old could not be cut")]
    NotWritten(#[from] NotWritten),
}

/// What a look has done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Done {
    /// How many buckets were cut.
    pub buckets: u64,
    /// How many rows beside records went.
    pub rows: u64,
    /// Why not all that is too old was cut; empty if nothing stood in the way.
    pub waits: String,
}

/// Looks again and again, until the hub stops.
pub async fn tend(state: Arc<HubState>) {
    let mut stopping = state.stopping.clone();
    let mut rest = FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => rest = EVERY,
            () = stopped(&mut stopping) => return,
        }
        let may = || state.replica.holds(Lease::Retain) && !*state.stopping.borrow();
        if !may() {
            continue;
        }
        match go(&state.readers, &state.writer, &state.config, state.now_ms(), &may).await {
            Ok(done) if done.buckets > 0 => tracing::info!(buckets = done.buckets, "what was too old is cut"),
            Ok(_) => {}
            Err(error) => {
                let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, why, "old records stay");
            }
        }
    }
}

/// Looks once. `may`: whether this is still for this hub to do.
pub async fn go(
    readers: &Readers,
    writer: &WriterHandle,
    config: &HubConfig,
    hub_ms: WallMs,
    may: &(dyn Fn() -> bool + Sync),
) -> Result<Done, RetainError> {
    let now_ms = time::now(&mut *readers.acquire().await?, hub_ms).await?;
    let keeping = retention::keeping(readers).await?;
    let (agree, heard) = retention::clocks(readers, now_ms.saturating_sub(HEARD_MS), JUMP_MS).await?;
    let mut done = Done::default();
    if is_believed(keeping.ran_ms, now_ms, agree, heard) {
        writer
            .within(move |writer| {
                Box::pin(async move {
                    partitions::make(writer, now_ms).await?;
                    retention::ran(writer, now_ms).await
                })
            })
            .await?;
        let cuts = retain::cut(&config.keep, now_ms);
        let sweep = Sweep { readers, writer, now_ms, may };
        for (class, range) in &cuts.buckets {
            sweep.records(*class, range, config.archive.on, &mut done).await?;
        }
        sweep.others(&cuts, &mut done).await?;
        sweep.fold(keeping.folded, cuts.hours_before).await?;
    } else {
        let days = (now_ms - keeping.ran_ms.unwrap_or(now_ms)) / DAY_MS;
        done.waits = format!(
            "the clock has moved by {days} days since old records were last looked for, and no nodes agree with it: if it \
             is right, an admin says so with POST /api/v1/retention/confirm"
        );
    }
    if done.waits != keeping.waits {
        if !done.waits.is_empty() {
            tracing::warn!(why = done.waits, "old records stay");
        }
        let waits = done.waits.clone();
        writer.within(move |writer| Box::pin(async move { retention::waits(writer, &waits).await })).await?;
    }
    Ok(done)
}

/// A person says that the clock is right: what is too old may go.
pub async fn confirm(writer: &WriterHandle, who: String, hub_ms: WallMs) -> Result<(), NotWritten> {
    let confirmed = writer.within(move |writer| {
        Box::pin(async move {
            let now_ms = time::now(writer, hub_ms).await?;
            retention::ran(writer, now_ms).await?;
            retention::waits(writer, "").await?;
            audit::append(writer, &entry(&who, "retain.confirm", "clock", None, now_ms)).await
        })
    });
    confirmed.await.map(drop)
}

fn entry(who: &str, act: &str, about: &str, after: Option<Value>, at_ms: WallMs) -> Entry {
    let (who, act, about) = (who.to_owned(), act.to_owned(), about.to_owned());
    Entry { at_ms, who, act, about, why: String::new(), before: None, after }
}

/// One look under way.
struct Sweep<'a> {
    readers: &'a Readers,
    writer: &'a WriterHandle,
    now_ms: WallMs,
    may: &'a (dyn Fn() -> bool + Sync),
}

impl Sweep<'_> {
    /// Cuts the buckets of a class, the oldest first; with an archive only what it has.
    async fn records(
        &self,
        class: Class,
        range: &Range<i64>,
        archived: bool,
        done: &mut Done,
    ) -> Result<(), RetainError> {
        let reaches = match archived {
            true => archives::reaches(self.readers, class.as_str()).await?,
            false => i64::MAX,
        };
        let gaps_to = if archived { archives::reaches(self.readers, "gaps").await? } else { i64::MAX };
        while (self.may)()
            && let Some(bucket) = retention::oldest(self.readers, range).await?
            && let Some(span) = retention::span(self.readers, bucket).await?
        {
            if span.last > reaches {
                done.waits = format!("records of class {class} are too old, and not in the archive yet");
                return Ok(());
            }
            self.bucket(class, bucket, span, gaps_to).await?;
            done.buckets += 1;
        }
        Ok(())
    }

    /// Cuts a bucket.
    async fn bucket(
        &self,
        class: Class,
        bucket: i64,
        span: retention::Span,
        gaps_to: i64,
    ) -> Result<(), RetainError> {
        let has_table = partitions::has(&mut *self.readers.acquire().await?, bucket).await?;
        let from = show_day(first_day(bucket));
        let told = Value::object([
            ("class", class.as_str().to_owned().into()),
            ("arrived_from", from.clone().into()),
            ("days", (period_days(class) as u64).into()),
            ("first", (span.first as u64).into()),
            ("last", (span.last as u64).into()),
            ("records", (span.count as u64).into()),
        ]);
        let entry = entry("hub", "retain.cut", &format!("{class}/{from}"), Some(told), self.now_ms);
        self.writer
            .within(move |writer| Box::pin(async move { audit::append(writer, &entry).await }))
            .await?;
        let mut first = span.first;
        while let Some(last) = retention::next(self.readers, bucket, first, ROWS).await? {
            if !(self.may)() {
                return Ok(());
            }
            let piece = Piece { bucket, first, last, only_made: has_table, gaps_to };
            self.writer
                .within(move |writer| Box::pin(async move { retention::cut(writer, &piece).await }))
                .await?;
            first = last.saturating_add(1);
            tokio::time::sleep(REST).await;
        }
        if has_table {
            self.writer
                .within(move |writer| {
                    Box::pin(async move {
                        let count = partitions::drop_table(writer, bucket).await?;
                        retention::count_cut(writer, count).await
                    })
                })
                .await?;
        }
        Ok(())
    }

    /// Removes what has had its time beside records.
    async fn others(&self, cuts: &Cuts, done: &mut Done) -> Result<(), RetainError> {
        for old in Old::ALL {
            let before = match old {
                Old::Alerts => cuts.alerts_before_ms,
                Old::Samples => cuts.samples_before,
                Old::Refused => cuts.refused_before_ms,
                Old::Answers => cuts.answers_before_ms,
                Old::Enrolments | Old::Tickets => cuts.ended_before_ms,
            };
            loop {
                let remove = self.writer.within(move |writer| {
                    Box::pin(async move { retention::remove(writer, old, before, ROWS).await })
                });
                let count = remove.await?;
                done.rows += count;
                if count < ROWS.unsigned_abs() || !(self.may)() {
                    break;
                }
                tokio::time::sleep(REST).await;
            }
        }
        Ok(())
    }

    /// Makes one figure of a day's hours, of days from `from` on that no comparison needs by the hour.
    async fn fold(&self, from: i64, before: i64) -> Result<(), RetainError> {
        let offered = retention::offered_since(self.readers).await?;
        let before = before.min(offered.map_or(i64::MAX, day_of));
        let mut after = None;
        while from < before && (self.may)() {
            let fold = self.writer.within(move |writer| {
                Box::pin(async move { samples::fold(writer, from..before, after.as_ref(), SAMPLES).await })
            });
            after = fold.await?;
            if after.is_none() {
                self.writer
                    .within(move |writer| Box::pin(async move { retention::folded(writer, before).await }))
                    .await?;
                break;
            }
            tokio::time::sleep(REST).await;
        }
        Ok(())
    }
}
