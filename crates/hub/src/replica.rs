//! This hub among those on one database: says that it is there, and takes the leases that nobody has.
//!
//! A hub whose database is a file is alone and has them all. Writes through a connection of its own, outside the turn: whoever
//! merely lives need not wait, and makes nobody forget what is remembered of the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::Connection as _;
use tokio::sync::watch;
use wire::world::{Clock, WallMs};

use crate::store::connection::{Readers, Writer};
use crate::store::database::Way;
use crate::store::leases::{self, LEASE_MS};
use crate::store::replicas::{self, BEAT_MS, ReplicaRow};
use crate::store::time;

/// What one hub of several does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lease {
    /// Looks at rollouts when nothing happens, and for nodes that have fallen silent.
    Tick,
    /// Publishes the audit log, and puts the heads of the nodes' chains into it.
    Audit,
    /// Writes old records into the archive.
    Archive,
    /// Cuts what is too old.
    Retain,
}

impl Lease {
    /// All of them.
    pub const ALL: [Lease; 4] = [Lease::Tick, Lease::Audit, Lease::Archive, Lease::Retain];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Lease::Tick => "tick",
            Lease::Audit => "audit",
            Lease::Archive => "archive",
            Lease::Retain => "retain",
        }
    }
}

/// This hub process, and the leases that it has.
pub struct Replica {
    me: String,
    address: String,
    began_ms: WallMs,
    clock: Arc<dyn Clock + Sync>,
    /// Whether the database is a server; else this hub is alone.
    is_one_of_several: bool,
    /// Until when each is surely ours, by the clock that never goes back, in nanoseconds.
    held: Mutex<BTreeMap<Lease, u64>>,
}

impl Replica {
    /// The hub process `me`, which listens at `address`.
    pub fn new(
        me: String,
        address: String,
        clock: Arc<dyn Clock + Sync>,
        is_one_of_several: bool,
    ) -> Arc<Replica> {
        let began_ms = clock.wall_ms();
        Arc::new(Replica { me, address, began_ms, clock, is_one_of_several, held: Mutex::default() })
    }

    /// What this process drew when it started.
    pub fn id(&self) -> &str {
        &self.me
    }

    /// Whether this is for this hub to do, now.
    pub fn holds(&self, lease: Lease) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_one_of_several || held.get(&lease).is_some_and(|until| self.clock.mono_ns() < *until)
    }

    /// The hubs on this database, and the time that their times are to be compared with.
    pub async fn all(&self, readers: &Readers) -> Result<(Vec<ReplicaRow>, WallMs), sqlx::Error> {
        let hub_ms = self.clock.wall_ms();
        if !self.is_one_of_several {
            let leases = Lease::ALL.map(|lease| lease.as_str().to_owned()).to_vec();
            let (id, address, version) = (self.me.clone(), self.address.clone(), VERSION.to_owned());
            let row = ReplicaRow { id, address, version, began_ms: self.began_ms, seen_ms: hub_ms, leases };
            return Ok((vec![row], hub_ms));
        }
        let mut reader = readers.acquire().await?;
        let now_ms = time::now(&mut reader, hub_ms).await?;
        Ok((replicas::list(&mut reader, now_ms).await?, now_ms))
    }

    /// Says once that this hub is there, and takes what is free.
    async fn beat(&self, writer: &mut Writer) -> Result<(), sqlx::Error> {
        let began_ns = self.clock.mono_ns();
        let mut transaction = writer.begin().await?;
        let now_ms = time::now(&mut transaction, self.clock.wall_ms()).await?;
        replicas::beat(&mut transaction, &self.me, &self.address, VERSION, now_ms).await?;
        let mut taken = BTreeMap::new();
        // A beat less than the database has it: whoever is slow to notice stops before another begins.
        let until_ns = began_ns.saturating_add(((LEASE_MS - BEAT_MS) * 1_000_000).unsigned_abs());
        for lease in Lease::ALL {
            if leases::take(&mut transaction, lease.as_str(), &self.me, now_ms).await?.is_some() {
                taken.insert(lease, until_ns);
            }
        }
        transaction.commit().await?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = taken;
        Ok(())
    }

    /// Says that this hub is there until it stops; then gives back what it has.
    pub async fn tend(self: Arc<Replica>, way: Way, mut stopping: watch::Receiver<bool>) {
        if !self.is_one_of_several {
            return;
        }
        let mut connection: Option<Writer> = None;
        let mut ticks = tokio::time::interval(Duration::from_millis(BEAT_MS.unsigned_abs()));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
            }
            let beaten = async {
                let mut writer = match connection.take() {
                    Some(writer) => writer,
                    None => way.connect().await?,
                };
                self.beat(&mut writer).await?;
                Ok::<_, sqlx::Error>(writer)
            };
            match beaten.await {
                Ok(writer) => connection = Some(writer),
                Err(error) => tracing::warn!(%error, "this hub could not say to the others that it is there"),
            }
        }
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(mut writer) = connection {
            let left = async {
                leases::give(&mut writer, &self.me).await?;
                replicas::leave(&mut writer, &self.me).await?;
                writer.close().await
            };
            if let Err(error) = left.await {
                tracing::warn!(%error, "this hub could not say to the others that it leaves");
            }
        }
    }
}

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
