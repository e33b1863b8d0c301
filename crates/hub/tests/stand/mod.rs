//! A writer whose clock can be set, on the database of the test.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hub::checkin::advice::Turns;
use hub::checkin::wait::Waits;
use hub::config::HubConfig;
use hub::live::Live;
use hub::metrics::Metrics;
use hub::replica::Replica;
use hub::retain::run;
use hub::store::buckets::{DAY_MS, bucket, day_of};
use hub::store::connection::Readers;
use hub::store::database::Store;
use hub::store::partitions;
use hub::write::Limits;
use hub::writer::{self, Desk, WriterHandle};
use wire::batch::Outcome;
use wire::class::Class;
use wire::world::{Clock, MonoNs, System, WallMs};

use super::fleet::{self, FakeNode};

/// The system's clock, so many milliseconds ago.
#[derive(Clone)]
pub struct Ago(Arc<AtomicI64>);

impl Clock for Ago {
    fn wall_ms(&self) -> WallMs {
        System::new().wall_ms() - self.0.load(Ordering::Relaxed)
    }

    fn mono_ns(&self) -> MonoNs {
        System::new().mono_ns()
    }
}

/// A writer whose clock can be set.
pub struct Stand {
    pub config: HubConfig,
    pub readers: Readers,
    pub writer: WriterHandle,
    pub clock: Ago,
}

impl Stand {
    pub async fn new(folder: &Path) -> Stand {
        let config = fleet::config(folder).await;
        let opened = hub::store::open(&config.data, config.database.as_ref()).await.unwrap();
        let Store { mut writer, readers, way, .. } = opened;
        let clock = Ago(Arc::new(AtomicI64::new(40 * DAY_MS)));
        // Metrics of that time have a table of their own where there are such; other classes lie with all others.
        if partitions::has(&mut writer, bucket(Class::Metric, day_of(System::new().wall_ms()))).await.unwrap()
        {
            let of_then = bucket(Class::Metric, day_of(clock.wall_ms()));
            let sql =
                format!("CREATE TABLE records_b{of_then} PARTITION OF records FOR VALUES IN ({of_then})");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut writer).await.unwrap();
        }
        let desk = Desk {
            writer,
            way,
            replica: Replica::new("me".into(), String::new(), Arc::new(clock.clone()), false),
            live: Live::new(1),
            metrics: Arc::new(Metrics::default()),
            clock: Arc::new(clock.clone()),
            check_in_ms: 1000,
            limits: Limits { nodes: 10 },
            waits: Arc::new(Waits::new(0)),
            turns: Turns::default(),
            me: "me".to_owned(),
        };
        let (writer, _) = writer::start(desk);
        Stand { config, readers, writer, clock }
    }

    pub fn days_ago(&self, days: i64) {
        self.clock.0.store(days * DAY_MS, Ordering::Relaxed);
    }

    pub async fn tell(&self, node: &mut FakeNode) {
        for stream in node.streams.keys().cloned().collect::<Vec<_>>() {
            while !node.streams[&stream].unsent.is_empty() || node.streams[&stream].gap.is_some() {
                let answer = self.writer.store(node.batch(&stream, 700)).await.unwrap();
                assert_eq!(answer.outcome, Outcome::Stored);
                node.acknowledge(&stream, &answer);
            }
        }
    }

    pub async fn cut(&self) -> run::Done {
        run::go(&self.readers, &self.writer, &self.config, System::new().wall_ms(), &|| true).await.unwrap()
    }

    pub async fn count(&self, what: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {what}"));
        sqlx::query_scalar(sql).fetch_one(&self.readers).await.unwrap()
    }

    pub async fn run(&self, sql: &'static str) {
        let work = self.writer.within(move |writer| Box::pin(sqlx::raw_sql(sql).execute(writer)));
        work.await.unwrap();
    }
}
