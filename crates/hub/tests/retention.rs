//! What is too old goes in its time, with all that was made of it; what is left can still be checked.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod fleet;
mod stand;

use fleet::FakeNode;
use hub::config::HubConfig;
use hub::config::keep::{ArchiveConfig, Days, KeepConfig};
use hub::retain::run;
use hub::store::audit::{self, AuditFilter};
use hub::store::buckets::{DAY_MS, bucket, day_of};
use hub::store::upkeep::{self, BackupError};
use hub::store::{partitions, records, retention, samples};
use stand::Stand;
use wire::batch::Outcome;
use wire::body::Behaviour;
use wire::class::Class;
use wire::hash::Hash;
use wire::record::GapReason;
use wire::world::{Clock as _, System};

const SUMMARY: &str = r#"{"source":"pump","window":1,"from_ms":1,"to_ms":2,"count":5,"channels":[]}"#;
const DECISION: &str = r#"{"rule":"hot","source":"pump","state":"STATE","severity":"warning","since_ms":1,"at_ms":2,"when":"t > 80","value":81,"input":"0000000000000000000000000000000000000000000000000000000000000000","ran":"rule","why":"hot","latency_us":1}"#;

/// What a node tells: metrics with a loss among them, and decisions.
fn tell(node: &mut FakeNode, metrics: usize) {
    node.write_text("metrics", Class::Metric, "note", 1, "1");
    node.lose("metrics", GapReason::ByteCap);
    for _ in 0..metrics {
        node.write_text("metrics", Class::Metric, "summary", 1, SUMMARY);
    }
    for state in ["firing", "cleared"] {
        node.write_text("audit", Class::Audit, "decision", 1, &DECISION.replace("STATE", state));
    }
}

#[tokio::test]
async fn what_is_old_goes_and_what_is_left_can_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::new(folder.path()).await;
    let mut node = FakeNode::new("", "a", 1);
    tell(&mut node, 4500);
    let again = node.batch("metrics", 700);
    stand.tell(&mut node).await;
    let end = node.streams["metrics"].head;
    stand.days_ago(0);
    tell(&mut node, 5);
    stand.tell(&mut node).await;
    assert_eq!((stand.count("records").await, stand.count("gaps").await), (4509, 2));
    let summaries = stand.count("summaries").await;

    // With an archive that has nothing, nothing goes.
    let archive = ArchiveConfig { on: true, ..ArchiveConfig::default() };
    let stand = Stand { config: HubConfig { archive, ..stand.config }, ..stand };
    let done = stand.cut().await;
    assert_eq!(done.buckets, 0);
    assert!(done.waits.contains("metric are too old, and not in the archive"), "{done:?}");
    let stand = Stand { config: HubConfig { archive: ArchiveConfig::default(), ..stand.config }, ..stand };
    assert_eq!(stand.cut().await, run::Done { buckets: 1, ..run::Done::default() });
    assert_eq!(stand.cut().await, run::Done::default(), "once");

    assert_eq!((stand.count("records").await, stand.count("gaps").await), (9, 1));
    assert_eq!(records::total(&stand.readers).await.unwrap(), 9);
    assert!(summaries >= 4505 && stand.count("summaries").await == summaries - 4500, "{summaries}");
    assert_eq!(stand.count("alerts WHERE record IS NOT NULL").await, 2, "decisions are kept for longer");
    let entries = AuditFilter { act: Some("retain.cut".to_owned()), ..AuditFilter::default() };
    let entries = audit::list(&stand.readers, &entries, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].body.contains(r#""class":"metric""#) && entries[0].body.contains(r#""records":4500"#));
    if stand.config.database.is_some() {
        let then = bucket(Class::Metric, day_of(System::new().wall_ms() - 40 * DAY_MS));
        let mut reader = stand.readers.acquire().await.unwrap();
        assert!(!partitions::has(&mut reader, then).await.unwrap(), "its table is gone as well");
    }

    // The first that is left follows a loss, which follows what is gone; its hash is known.
    let journal = node.journal.to_string();
    let first = records::get(&stand.readers, "a", &journal, "metrics", 4503).await.unwrap().unwrap();
    let (before, _) = records::neighbours(&stand.readers, first.id).await.unwrap();
    assert_eq!(before.map(|it| (it.what, it.first, it.last)), Some(("gap".to_owned(), 4502, 4502)));
    let base =
        sqlx::query_as::<_, (i64, Vec<u8>)>("SELECT base_seq, base_hash FROM streams WHERE name = 'metrics'");
    let base = base.fetch_one(&stand.readers).await.unwrap();
    assert_eq!((base.0, Hash::from_slice(&base.1)), (4501, Some(end)));
    // A node that sends it once more is told that it is settled.
    let answer = stand.writer.store(again).await.unwrap();
    assert_eq!((answer.outcome, answer.watermark.seq), (Outcome::Stored, 4507));
    // And a stream whose first record that is left follows the cut directly says so.
    stand.run("DELETE FROM gaps").await;
    stand.run("UPDATE streams SET base_seq = 4502 WHERE name = 'metrics'").await;
    let (before, _) = records::neighbours(&stand.readers, first.id).await.unwrap();
    assert_eq!(before.map(|it| (it.what, it.last, it.hash)), Some(("cut".to_owned(), 4502, base.1)));

    // Two years later decisions are gone, too, with their alert.
    let keep = KeepConfig { audit: Days::of(1), raw: Days::of(1), ..KeepConfig::default() };
    let stand = Stand { config: HubConfig { keep, ..stand.config }, ..stand };
    assert_eq!(stand.cut().await.buckets, 1);
    assert_eq!((stand.count("records").await, stand.count("alerts WHERE record IS NOT NULL").await), (7, 1));
}

#[tokio::test]
async fn a_clock_that_jumped_needs_nodes_or_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::new(folder.path()).await;
    let mut node = FakeNode::new("", "a", 1);
    tell(&mut node, 3);
    stand.tell(&mut node).await;
    stand.run("UPDATE keeping SET ran_ms = 1000").await;
    let done = stand.cut().await;
    assert!(done.buckets == 0 && done.waits.contains("the clock has moved"), "{done:?}");
    assert_eq!(retention::keeping(&stand.readers).await.unwrap().waits, done.waits);
    // Its node has another time than the hub.
    stand.days_ago(0);
    let check_in = async |wall_ms| {
        let checkin = node.checkin(wall_ms);
        let text = serde_json::to_string(&checkin).unwrap();
        stand.writer.check_in(checkin, text).await.unwrap();
    };
    check_in(5).await;
    assert!(!stand.cut().await.waits.is_empty());
    run::confirm(&stand.writer, "operator:ann".to_owned(), System::new().wall_ms()).await.unwrap();
    assert_eq!(stand.cut().await, run::Done { buckets: 1, ..run::Done::default() });
    stand.run("UPDATE keeping SET ran_ms = 1000").await;
    check_in(System::new().wall_ms()).await;
    assert_eq!(stand.cut().await.waits, "", "its node agrees");
}

#[tokio::test]
async fn samples_lose_their_hours_and_then_go() {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::new(folder.path()).await;
    let mut node = FakeNode::new("", "a", 1);
    let (now_ms, manifest) = (System::new().wall_ms(), Hash::of(b"m"));
    let told = |day: i64, hour: i64| {
        let from_ms = (day_of(now_ms) - day) * DAY_MS + hour * 3_600_000;
        let text = format!(
            r#"{{"id":"x","model":"m","manifest":"{manifest}","from_ms":{from_ms},"to_ms":{from_ms},"answered":100,"failed":1}}"#
        );
        serde_json::from_str::<Behaviour>(&text).unwrap()
    };
    stand.days_ago(0);
    for day in [500, 100, 5] {
        for hour in [3, 4] {
            node.write("behaviour", Class::Metric, 1, &told(day, hour));
        }
    }
    stand.tell(&mut node).await;
    assert_eq!(stand.count("samples").await, 3);
    assert_eq!(stand.cut().await.rows, 1);
    let read = async || {
        let page = stand.writer.within(|writer| Box::pin(samples::page(writer, "m", 0, None, 10)));
        page.await.unwrap().into_iter().map(|row| serde_json::to_value(row.told).unwrap()).collect::<Vec<_>>()
    };
    let (before, days) = (read().await, day_of(now_ms));
    assert_eq!(before[0], serde_json::json!({ "0": { "failed_share": [202.0, 2.0] } }));
    assert_eq!(before[1].as_object().unwrap().len(), 2, "lately every hour counts");
    assert_eq!(retention::keeping(&stand.readers).await.unwrap().folded, days - 28);
    stand.cut().await;
    assert_eq!(read().await, before);
}

#[tokio::test]
async fn a_copy_is_whole_while_the_hub_writes_and_a_fault_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::new(folder.path()).await;
    let mut node = FakeNode::new("", "a", 1);
    tell(&mut node, 2500);
    stand.tell(&mut node).await;
    let checked = upkeep::check(&stand.readers).await.unwrap();
    assert_eq!((checked.faults, checked.chains.records, checked.chains.gaps), (vec![], 2502, 1));
    if stand.config.database.is_none() {
        let looked = hub::store::look(folder.path(), None).await.unwrap();
        let out = folder.path().join("copy").join("hub.sqlite");
        assert!(upkeep::backup(&looked, &out).await.is_err(), "there is no such folder");
        std::fs::create_dir(out.parent().unwrap()).unwrap();
        tell(&mut node, 2500);
        let (copied, ()) = tokio::join!(upkeep::backup(&looked, &out), stand.tell(&mut node));
        assert_eq!(copied.unwrap(), std::fs::metadata(&out).unwrap().len());
        assert!(matches!(upkeep::backup(&looked, &out).await, Err(BackupError::There(_))));
        // The copy is a hub's store like any other, as it was at some moment.
        let copy = hub::store::open(out.parent().unwrap(), None).await.unwrap();
        let checked = upkeep::check(&copy.readers).await.unwrap();
        assert_eq!(checked.faults, Vec::<String>::new());
        assert!(checked.chains.records >= 2502 && checked.chains.wrong == 0, "{checked:?}");
    }
    stand.run("UPDATE records SET body = '2' WHERE seq = 1700").await;
    stand.run("UPDATE streams SET seq = seq + 1 WHERE name = 'audit'").await;
    stand.run("UPDATE turn SET last_audit = 7").await;
    let checked = upkeep::check(&stand.readers).await.unwrap();
    assert_eq!((checked.faults.len(), checked.chains.wrong), (2, 1), "{checked:?}");
    assert!(checked.chains.faults[0].contains("/metrics/1700 has another hash"), "{checked:?}");
}
