//! One turn at a time: what happens to those who wait.

use std::time::Duration;

use hub::store::connection::{Readers, Writer};
use hub::store::{alerts, turn};
use hub::write::{self, Limits, Names, Written};
use sqlx::Connection as _;
use wire::class::Class;

use super::fleet::FakeNode;
use super::{Hubs, Replica, open, runtime};

#[test]
fn a_hub_that_hangs_in_its_turn_holds_the_others_for_seconds() {
    let shared = tempfile::tempdir().unwrap();
    let Some(one) = Replica::start(shared.path(), "one") else { return };
    let other = Replica::start(shared.path(), "other").unwrap();
    runtime().block_on(async {
        let mut frozen = open(shared.path(), "frozen").await.unwrap().writer;
        let mut transaction = frozen.begin().await.unwrap();
        turn::take(&mut transaction, "frozen").await.unwrap();
        turn::settle(&mut transaction, 1000).await.unwrap();
        // Nobody ends this transaction, so whoever goes on does so because the server has thrown it out.
        let tell = async |seed: u64, replica: &Replica| {
            let mut hubs = Hubs::new(&[replica]);
            let mut node = FakeNode::new("", &format!("node-{seed}"), seed);
            for n in 0..10 {
                node.write_text("metrics", Class::Metric, "note", n, "1");
            }
            hubs.check_in(&node.checkin(5), false).await;
            hubs.send(&mut node, "metrics", false).await;
            assert!(node.streams["metrics"].unsent.is_empty());
        };
        let all =
            futures_util::future::join_all([tell(1, &one), tell(2, &other), tell(3, &one), tell(4, &other)]);
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("they never got their turn");
        transaction.commit().await.expect_err("it lost its turn");
        let overview = Hubs::new(&[&one]).get("/api/v1/overview").await;
        assert_eq!((&overview["records"], &overview["nodes"]), (&40.into(), &4.into()));
        let newest = Hubs::new(&[&other]).get("/api/v1/records?limit=1").await;
        assert_eq!(newest["records"][0]["id"], 40, "what it had drawn is drawn again");
    });
    one.stop();
    other.stop();
}

/// Until so many wait for their turn.
async fn waiting(readers: &Readers, most: i64) {
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(readers).await.unwrap() < most {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn check_in(writer: &mut Writer, names: &mut Names, me: &str, node: &FakeNode, now_ms: i64) {
    let (checkin, mut written) = (node.checkin(now_ms), Written::default());
    let text = serde_json::to_string(&checkin).unwrap();
    let last_record = write::begin(writer, names, me).await.unwrap();
    let limits = Limits { nodes: 10 };
    let answer = write::checkin(writer, names, &limits, &checkin, &text, 1000, now_ms, &mut written);
    answer.await.unwrap().unwrap();
    write::end(writer, names, last_record, now_ms, &mut written).await.unwrap();
}

#[tokio::test]
async fn a_node_falls_silent_once_and_only_if_no_hub_hears_it() {
    const MINUTE_MS: i64 = 60_000;
    let shared = tempfile::tempdir().unwrap();
    let Some(mut one) = open(shared.path(), "one").await else { return };
    let mut other = open(shared.path(), "other").await.unwrap();
    let (mut names, mut others, mut written) = (Names::default(), Names::default(), Written::default());
    let node = FakeNode::new("", "a", 1);
    check_in(&mut one.writer, &mut names, "one", &node, 0).await;
    let list = async || alerts::list(&one.readers, &alerts::AlertFilter::default(), 10).await.unwrap();

    // It is heard of by one while the other, who has missed it for long, waits for its turn.
    let mut transaction = one.writer.begin().await.unwrap();
    check_in(&mut transaction, &mut names, "one", &node, 10 * MINUTE_MS).await;
    let look = write::watch(&mut other.writer, &mut others, "other", 0, 10 * MINUTE_MS, &mut written);
    let heard = async {
        waiting(&one.readers, 1).await;
        transaction.commit().await.unwrap();
    };
    tokio::join!(look, heard).0.unwrap();
    assert_eq!((list().await.len(), written.events.len()), (0, 0), "it is there");

    // Both miss it at once.
    let mut frozen = open(shared.path(), "frozen").await.unwrap().writer;
    let mut transaction = frozen.begin().await.unwrap();
    turn::take(&mut transaction, "frozen").await.unwrap();
    let mut also = Written::default();
    let look = write::watch(&mut one.writer, &mut names, "one", 0, 20 * MINUTE_MS, &mut written);
    let looks = write::watch(&mut other.writer, &mut others, "other", 0, 20 * MINUTE_MS, &mut also);
    let free = async {
        waiting(&one.readers, 2).await;
        transaction.rollback().await.unwrap();
    };
    let (look, looks, ()) = tokio::join!(look, looks, free);
    look.unwrap();
    looks.unwrap();
    let alerts = list().await;
    assert_eq!((alerts.len(), alerts[0].count), (1, 1));
    assert_eq!(written.events.len() + also.events.len(), 1, "one of them tells it");
}
