//! What SQLite has written ahead goes into the database beside the writer, so that no commit waits for it.
//!
//! Left to itself, the connection whose commit makes the log longer than a limit brings all of it into the database: whoever waits for
//! that commit waits until pages scattered over the whole file are on disk. Here a second connection does so twice a second, and no
//! writer waits for it. It cannot begin the log anew while there is always somebody who writes: the writer does, at a limit that is
//! higher than usual, and finds little left to bring.

use std::time::Duration;

use sqlx::{Connection as _, Row as _};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::store::connection::Writer;
use crate::store::database::Way;

/// How often. Half a second of 3000 records a second is some 1500 pages.
const EVERY: Duration = Duration::from_millis(500);

/// Does it until the hub stops.
pub async fn tend(way: Way, mut stopping: watch::Receiver<bool>) {
    let mut connection: Option<Writer> = None;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
        }
        let brought = async {
            let mut own = match connection.take() {
                Some(own) => own,
                None => way.connect().await?,
            };
            bring(&mut own).await?;
            Ok::<_, sqlx::Error>(own)
        };
        match brought.await {
            Ok(own) => connection = Some(own),
            Err(error) => tracing::warn!(%error, "the database's log was left to the writer"),
        }
    }
    if let Some(own) = connection
        && let Err(error) = own.close().await
    {
        tracing::warn!(%error, "a connection to the database did not close cleanly; nothing is lost");
    }
}

/// Brings what no reader still needs as it was. How many pages the log has, and how many of them are in the database now.
async fn bring(own: &mut Writer) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(own).await?;
    Ok((row.try_get("log")?, row.try_get("checkpointed")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite;

    #[tokio::test]
    async fn the_log_is_brought_while_somebody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = sqlite::open(folder.path()).await.unwrap();
        let mut own = store.way.connect().await.unwrap();
        bring(&mut own).await.unwrap();
        let word = "INSERT INTO words (name, value) VALUES ($1, $2)";
        for n in 0..50 {
            let query = sqlx::query(word).bind(format!("{n}")).bind("x".repeat(4000));
            query.execute(&mut store.writer).await.unwrap();
        }
        // A writer in the middle of a transaction holds nobody up, and is held up by nobody.
        let mut transaction = store.writer.begin().await.unwrap();
        sqlx::query(word).bind("last").bind("").execute(&mut *transaction).await.unwrap();
        let (log, brought) = bring(&mut own).await.unwrap();
        assert!(log >= 50 && brought == log, "{brought} of {log}");
        transaction.commit().await.unwrap();
        let count = sqlx::query("SELECT COUNT(*) FROM words").fetch_one(&store.readers).await.unwrap();
        assert!(count.try_get::<i64, _>(0).unwrap() >= 51);
    }

    #[tokio::test]
    async fn it_ends_with_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite::open(folder.path()).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let tending = tokio::spawn(tend(store.way, stopping));
        tokio::task::yield_now().await;
        stop.send_replace(true);
        tending.await.unwrap();
    }
}
