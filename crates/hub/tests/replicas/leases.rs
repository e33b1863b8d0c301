//! One hub of several does what one is enough for, and another when it is gone.

use std::path::Path;
use std::time::Duration;

use hub::store::database::Store;
use hub::store::schema::{self, Dialect};
use hub::store::{buckets, records};
use serde_json::Value;
use sqlx::Connection as _;

use super::fleet;
use super::{Hubs, Replica, runtime};

/// What one says of all, once `good` of it; fails after 40 s.
async fn until(hub: &Replica, good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    for _ in 0..400 {
        last = Hubs::new(&[hub]).get("/api/v1/replicas").await.as_array().unwrap().clone();
        if good(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {last:?}");
}

fn leases(replica: &Value) -> usize {
    replica["leases"].as_array().unwrap().len()
}

#[test]
fn what_one_hub_does_another_does_when_it_is_gone() {
    let shared = tempfile::tempdir().unwrap();
    let Some(one) = Replica::start(shared.path(), "one") else { return };
    let asked = runtime();
    asked.block_on(until(&one, |all| all.len() == 1 && leases(&all[0]) == 4));
    let other = Replica::start(shared.path(), "other").unwrap();
    let all = asked.block_on(until(&other, |all| all.len() == 2));
    assert_eq!((leases(&all[0]), leases(&all[1])), (4, 0), "the first keeps what it has: {all:?}");
    assert_eq!((&all[0]["here"], &all[1]["here"]), (&false.into(), &true.into()));
    assert!(all.iter().all(|it| it["alive"] == true));
    one.kill();
    let all = asked.block_on(until(&other, |all| leases(&all[1]) == 4));
    assert_eq!((&all[0]["alive"], leases(&all[0])), (&false.into(), 0));
    // Whoever stops gives back what it has.
    let third = Replica::start(shared.path(), "third").unwrap();
    asked.block_on(until(&third, |all| all.len() == 3));
    other.stop();
    let all = asked.block_on(until(&third, |all| all.last().is_some_and(|it| leases(it) == 4)));
    assert_eq!(all.len(), 2, "{all:?}");
    third.stop();
}

/// A database that an older program has written becomes one of this: its records move into the tables of their buckets.
#[tokio::test]
async fn records_of_an_older_program_move() {
    const NOW_MS: i64 = 1_795_305_600_000;
    let shared = tempfile::tempdir().unwrap();
    let Some(url) = fleet::config(shared.path()).await.database else { return };
    sqlx::any::install_default_drivers();
    let mut writer = sqlx::AnyConnection::connect(url.secret()).await.unwrap();
    schema::advance(&mut writer, Dialect::Postgres, 2).await.unwrap();
    for sql in [
        format!("INSERT INTO nodes (id, name, first_seen_ms, last_seen_ms, next_ms) VALUES (1, 'a', 0, {NOW_MS}, 0)"),
        "INSERT INTO journals (id, node, name, first_seen_ms) VALUES (1, 1, 'j', 0)".to_owned(),
        "INSERT INTO streams (id, node, journal, name, class, seq, hash) VALUES (1, 1, 1, 'm', 'metric', 3, ''), \
         (2, 1, 1, 'a', 'audit', 3, '')"
            .to_owned(),
        "INSERT INTO records (id, node, stream, seq, kind, boot, mono_ns, wall_ms, clock, hash, body) \
         SELECT n, 1, 1 + n % 2, n, 'note', '', 0, 0, 'off', '', n::text FROM generate_series(1, 6) AS n"
            .to_owned(),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut writer).await.unwrap();
    }
    let store = opened(shared.path()).await;
    let day = buckets::day_of(NOW_MS);
    for (class, expected) in [("metric", 3), ("audit", 3)] {
        let class = wire::class::Class::parse(class).unwrap();
        let sql = format!("SELECT COUNT(*) FROM records_b{}", buckets::bucket(class, day));
        let count: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&store.readers).await.unwrap();
        assert_eq!(count, expected, "{class}");
    }
    assert_eq!(buckets::days(&store.readers).await.unwrap(), [buckets::DayRow { first: 1, day }]);
    assert_eq!(records::by_id(&store.readers, 5).await.unwrap().unwrap().body, "5");
}

async fn opened(shared: &Path) -> Store {
    super::open(shared, "one").await.unwrap()
}
