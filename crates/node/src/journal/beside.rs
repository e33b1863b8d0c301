//! What is done beside the journal's own thread, on a connection of its own, so that no decision waits for it: what was written ahead is
//! brought into the database, and after a run that did not end in order every page of a large database is looked at.
//!
//! Left to itself, SQLite brings the log in within the commit that makes it long: whoever waits for that commit waits for the disk. Here
//! a second connection does, and the writer only at a limit that is higher than usual, when it finds little left to bring: it alone can
//! begin the log anew while there is always somebody who writes.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, park_timeout};
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::database::{self, DatabaseError, PAGE_BYTES};
use crate::why::why;

/// A log of about so many pages is brought in: SQLite's own measure.
const LOG_PAGES: u64 = 1_000;

/// Pages that a commit writes besides those of its records: the tables' inner pages, the streams' rows.
const COMMIT_PAGES: u64 = 3;

/// What is to be done.
enum Order {
    /// Look at every page.
    Check,
    /// Bring the log in.
    Bring,
}

/// The second pair of hands.
pub(super) struct Beside {
    dir: PathBuf,
    /// Begun when there is something to do.
    hands: Option<Hands>,
    /// Written since the log was brought in last, about.
    pages: u64,
    is_checking: bool,
}

struct Hands {
    orders: Option<SyncSender<Order>>,
    /// What became of the check.
    checked: Receiver<Result<(), String>>,
    interrupt: InterruptHandle,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// For the journal in `dir`, whose database is there. `check`: whether it is to be looked at.
    pub(super) fn new(dir: &Path, check: bool) -> Beside {
        let mut beside = Beside { dir: dir.to_owned(), hands: None, pages: 0, is_checking: check };
        if check {
            beside.order(Order::Check);
        }
        beside
    }

    /// So many bytes of records were committed.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.pages += COMMIT_PAGES + bytes / PAGE_BYTES;
        if self.pages >= LOG_PAGES {
            self.pages = 0;
            self.order(Order::Bring);
        }
    }

    /// What is wrong with the database, once that is known.
    pub(super) fn damage(&mut self) -> Option<String> {
        if !self.is_checking {
            return None;
        }
        let checked = self.hands.as_ref()?.checked.try_recv().ok()?;
        self.is_checking = false;
        checked.err()
    }

    /// Whether nobody knows yet that the database is whole.
    pub(super) fn is_checking(&mut self) -> bool {
        self.damage().is_some() || self.is_checking
    }

    /// Has it done as soon as what was ordered before is; one order that waits is enough.
    fn order(&mut self, order: Order) {
        if self.hands.is_none() {
            match Hands::begin(&self.dir) {
                Ok(hands) => self.hands = Some(hands),
                // The writer brings the log in at its own limit; what is damaged is met when it is read.
                Err(error) => {
                    tracing::warn!(error = why(&error), "nothing is done beside the journal's work");
                }
            }
        }
        if let Some(orders) = self.hands.as_ref().and_then(|hands| hands.orders.as_ref()) {
            // Full: it is about to be done anyway.
            let _ = orders.try_send(order);
        }
    }
}

impl Hands {
    fn begin(dir: &Path) -> Result<Hands, DatabaseError> {
        let conn = database::join(dir, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let interrupt = conn.get_interrupt_handle();
        let (orders, waiting) = sync_channel(1);
        let (tell, checked) = sync_channel(1);
        let named = std::thread::Builder::new().name("journal-beside".to_owned());
        let thread = named.spawn(move || work(&conn, &waiting, &tell));
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "no thread beside the journal")).ok();
        Ok(Hands { orders: Some(orders), checked, interrupt, thread })
    }
}

impl Drop for Hands {
    /// Ends what is under way: the database may be about to be moved.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // What begins just now does not hear of an interruption before.
            while !thread.is_finished() {
                self.interrupt.interrupt();
                park_timeout(Duration::from_millis(5));
            }
            // It has said whatever it had to say.
            let _ = thread.join();
        }
    }
}

fn work(conn: &Connection, orders: &Receiver<Order>, tell: &SyncSender<Result<(), String>>) {
    for order in orders {
        match order {
            Order::Check => {
                let checked = match database::quick_check(conn) {
                    Err(DatabaseError::Damaged { why }) => Err(why),
                    Ok(()) => Ok(()),
                    // Not known: it is looked at again after the next start.
                    Err(error) => {
                        tracing::info!(error = why(&error), "the journal was not looked at to the end");
                        continue;
                    }
                };
                let _ = tell.try_send(checked);
            }
            Order::Bring => match database::bring(conn) {
                Ok(()) => {}
                Err(error) => tracing::debug!(error = why(&error), "the log was left to the writer"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::id::JournalId;
    use wire::world::Simulated;

    use super::super::database::FILE;
    use super::*;

    fn wait(what: &str, holds: impl Fn() -> bool) {
        for _ in 0..2_000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{what}");
    }

    #[test]
    fn what_was_written_ahead_is_brought_in_while_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (conn, _) = database::open(dir.path(), JournalId::random(&mut Simulated::new(1))).unwrap();
        conn.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        let size = || std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        conn.execute_batch("CREATE TABLE filler (bytes BLOB)").unwrap();
        let before = size();
        let mut beside = Beside::new(dir.path(), false);
        for _ in 0..1_000 {
            conn.execute("INSERT INTO filler VALUES (randomblob(1000))", []).unwrap();
            beside.wrote(1_000);
        }
        wait("the file grows", || size() > before + 500_000);
        assert!(beside.damage().is_none() && !beside.is_checking());
    }

    #[test]
    fn a_check_that_nobody_waits_for_ends_with_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let (conn, _) = database::open(dir.path(), JournalId::random(&mut Simulated::new(1))).unwrap();
        conn.execute_batch(
            "CREATE TABLE filler (bytes BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
             INSERT INTO filler SELECT randomblob(3000) FROM n",
        )
        .unwrap();
        for _ in 0..20 {
            drop(Beside::new(dir.path(), true));
        }
        let mut beside = Beside::new(dir.path(), true);
        for _ in 0..2_000 {
            if !beside.is_checking() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it is never looked at to the end");
    }
}
