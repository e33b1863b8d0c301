//! Records go in once, whatever is sent and however often.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod fleet;

use fleet::FakeNode;
use hub::server::{Hub, Running};
use serde_json::Value;
use wire::batch::{BATCH_MAX_BYTES, BatchAnswer, CONTENT_TYPE, Outcome};
use wire::class::Class;
use wire::record::GapReason;
use wire::world::System;

async fn hub(folder: &std::path::Path) -> Running {
    Hub::start(fleet::config(folder).await, System::new()).await.unwrap()
}

async fn get(hub: &Running, path: &str) -> Value {
    reqwest::get(format!("{}{path}", hub.url())).await.unwrap().json().await.unwrap()
}

async fn count(hub: &Running, query: &str) -> usize {
    get(hub, &format!("/api/v1/records?limit=200{query}")).await["records"].as_array().unwrap().len()
}

fn with_records(url: &str, name: &str, records: u64) -> FakeNode {
    let mut node = FakeNode::new(url, name, 7);
    for n in 0..records {
        node.write_text("metrics", Class::Metric, "note", 1000 + n as i64, &format!("{{\"n\": {n}}}"));
    }
    node
}

#[tokio::test]
async fn exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let mut node = with_records(&hub.url(), "a", 10);
    let send = async |node: &FakeNode, batch| node.send(&batch).await.json::<BatchAnswer>().await.unwrap();
    let whole = node.batch("metrics", 10);
    let half = node.batch("metrics", 4);

    let answer = send(&node, half.clone()).await;
    assert_eq!((answer.outcome, answer.watermark.seq), (Outcome::Stored, 4));
    // Again, then all of it, then all of it again, then the half once more.
    for (batch, seq) in [(half.clone(), 4), (whole.clone(), 10), (whole.clone(), 10), (half, 10)] {
        let answer = send(&node, batch).await;
        assert_eq!((answer.outcome, answer.watermark.seq), (Outcome::Stored, seq));
    }
    assert_eq!(count(&hub, "").await, 10);

    // Beyond the watermark.
    node.acknowledge("metrics", &send(&node, whole.clone()).await);
    for n in 10..20 {
        node.write_text("metrics", Class::Metric, "note", 2000, &format!("{{\"n\":{n}}}"));
    }
    let mut ahead = node.batch("metrics", 10);
    ahead.records.remove(0);
    let answer = send(&node, ahead).await;
    assert_eq!((answer.outcome, answer.watermark.seq), (Outcome::Ahead, 10));

    // Another past under the same journal.
    let mut twin = with_records(&hub.url(), "a", 9);
    twin.write_text("metrics", Class::Metric, "note", 1, "\"another tenth\"");
    twin.write_text("metrics", Class::Metric, "note", 1, "\"eleventh\"");
    for _ in 0..2 {
        let answer = send(&twin, twin.batch("metrics", 20)).await;
        assert_eq!((answer.outcome, answer.watermark.seq), (Outcome::Forked, 10));
    }
    let alerts = get(&hub, "/api/v1/alerts").await;
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 1, "{alerts}");
    assert_eq!(alerts["alerts"][0]["rule"], "journal-forked");
    assert_eq!(alerts["alerts"][0]["count"], 2);

    // The honest one goes on.
    assert_eq!(send(&node, node.batch("metrics", 100)).await.watermark.seq, 20);
    assert_eq!(count(&hub, "").await, 20);
    hub.stop().await;
}

#[tokio::test]
async fn losses_are_visible() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let mut node = with_records(&hub.url(), "a", 5);
    node.sync().await;
    for _ in 0..3 {
        node.write_text("metrics", Class::Metric, "note", 1, "1");
    }
    node.lose("metrics", GapReason::ByteCap);
    node.write_text("metrics", Class::Metric, "note", 1, "2");
    node.sync().await;
    // The acknowledgement was lost on the way, and the node drops what the hub has: nothing new is lost.
    let mut gap = node.batch("metrics", 1);
    gap.gap = Some(wire::record::Gap { first: 4, last: 9, reason: GapReason::Retired, hash: gap.head });
    let answer: BatchAnswer = node.send(&gap).await.json().await.unwrap();
    assert_eq!((answer.outcome, answer.watermark.seq), (Outcome::Stored, 9));
    // A gap that begins before the watermark and ends beyond it counts from the watermark on.
    gap.gap = Some(wire::record::Gap { first: 4, last: 12, reason: GapReason::Retired, hash: gap.head });
    let answer: BatchAnswer = node.send(&gap).await.json().await.unwrap();
    assert_eq!((answer.outcome, answer.watermark.seq), (Outcome::Stored, 12));

    let gaps = get(&hub, "/api/v1/gaps?node=a").await;
    let ranges: Vec<_> =
        gaps["gaps"].as_array().unwrap().iter().map(|gap| (&gap["first"], &gap["last"])).collect();
    assert_eq!(format!("{ranges:?}"), "[(Number(10), Number(12)), (Number(6), Number(8))]");
    let alerts = get(&hub, "/api/v1/alerts?state=firing").await;
    assert_eq!(
        (&alerts["alerts"][0]["rule"], &alerts["alerts"][0]["count"]),
        (&"records-lost".into(), &6.into())
    );
    assert_eq!(count(&hub, "").await, 6);

    // The record after the gap is verified against the gap's hash.
    let journal = node.journal;
    let proof = get(&hub, &format!("/api/v1/records/a/{journal}/metrics/9")).await;
    assert_eq!((&proof["verified"], &proof["before"]["what"]), (&true.into(), &"gap".into()));
    assert_eq!(proof["after"]["first"], 10);
    hub.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let first = hub(folder.path()).await;
    let mut node = with_records(&first.url(), "a", 5);
    node.sync().await;
    let before = node.check_in(1).await.watermarks;
    first.stop().await;

    let second = hub(folder.path()).await;
    node.url = second.url();
    assert_eq!(node.check_in(1).await.watermarks, before);
    assert_eq!((before[0].seq, before[0].hash), (5, node.streams["metrics"].head));
    node.write_text("metrics", Class::Metric, "note", 1, "true");
    node.sync().await;
    assert_eq!(count(&second, "&node=a&stream=metrics&kind=note").await, 6);
    for seq in 1..=6 {
        let proof = get(&second, &format!("/api/v1/records/a/{}/metrics/{seq}", node.journal)).await;
        assert_eq!(proof["verified"], true, "record {seq}");
    }
    second.stop().await;
}

#[tokio::test]
async fn a_changed_row_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let first = hub(folder.path()).await;
    let mut node = with_records(&first.url(), "a", 3);
    node.sync().await;
    first.stop().await;
    let database = fleet::config(folder.path()).await.database;
    let store = hub::store::open(folder.path(), database.as_ref()).await.unwrap();
    let mut writer = store.writer;
    sqlx::query("UPDATE records SET body = '{\"n\": 100}' WHERE seq = 2").execute(&mut writer).await.unwrap();
    drop((writer, store.readers, store.lock));

    let second = hub(folder.path()).await;
    for (seq, verified) in [(1, true), (2, false), (3, true)] {
        let proof = get(&second, &format!("/api/v1/records/a/{}/metrics/{seq}", node.journal)).await;
        assert_eq!(proof["verified"], verified, "record {seq}");
    }
    second.stop().await;
}

#[tokio::test]
async fn many_nodes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let nodes = (0..12).map(|n| {
        let mut node = with_records(&hub.url(), &format!("node-{n}"), 300);
        tokio::spawn(async move {
            while let Some(last) = node.streams["metrics"].unsent.first().map(|record| record.seq) {
                let batch = node.batch("metrics", 50);
                let answer = node.send(&batch).await;
                if answer.status() == 503 {
                    assert!(answer.headers().contains_key("retry-after"));
                    continue;
                }
                let answer: BatchAnswer = answer.json().await.unwrap();
                assert!(answer.watermark.seq >= last);
                node.acknowledge("metrics", &answer);
                node.check_in(5).await;
            }
        })
    });
    for node in nodes.collect::<Vec<_>>() {
        node.await.unwrap();
    }
    let overview = get(&hub, "/api/v1/overview").await;
    assert_eq!((&overview["records"], &overview["nodes"]), (&3600.into(), &12.into()));
    hub.stop().await;
}

#[tokio::test]
async fn hostile_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let node = with_records(&hub.url(), "a", 2);
    let packed = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let deep = packed("[".repeat(1_000_000).as_bytes());
    let other_class = {
        let mut other = with_records(&hub.url(), "a", 2);
        other.sync().await;
        other.write_text("metrics", Class::Metric, "note", 1, "1");
        other.streams.get_mut("metrics").unwrap().class = Class::Audit;
        packed(&serde_json::to_vec(&other.batch("metrics", 9)).unwrap())
    };
    let cases: [(&str, &str, Vec<u8>, u16, &str); 10] = [
        ("records", CONTENT_TYPE, b"not zstd".to_vec(), 400, "not-zstd"),
        ("records", CONTENT_TYPE, packed(b"{"), 400, "bad-batch"),
        ("records", CONTENT_TYPE, deep, 400, "bad-batch"),
        ("records", CONTENT_TYPE, packed(&vec![0; BATCH_MAX_BYTES + 1]), 413, "too-large"),
        ("records", CONTENT_TYPE, other_class, 400, "other-class"),
        ("records", "application/json", b"{}".to_vec(), 415, "content-type"),
        ("records", CONTENT_TYPE, vec![0; 100_000_000], 413, "too-large"),
        ("checkin", "application/json", b"{}".to_vec(), 400, "bad-checkin"),
        ("checkin", "application/json", vec![b' '; 300_000], 413, "too-large"),
        ("checkin", "text/plain", b"{}".to_vec(), 415, "content-type"),
    ];
    for (path, content_type, body, status, code) in cases {
        let len = body.len();
        let client = reqwest::Client::new();
        let request =
            client.post(format!("{}/api/v1/{path}", hub.url())).header("content-type", content_type);
        // The hub may close the connection before a large body is sent; then there is no answer to read.
        let Ok(answer) = request.body(body).send().await else {
            assert!(len > 1_000_000, "{code}: no answer");
            continue;
        };
        assert_eq!(answer.status(), status, "{code}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["error"]["code"], code);
        assert!(!answer["error"]["mend"].as_str().unwrap().is_empty());
    }
    // Without a length, the limit holds as well.
    let parts = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 65_536]));
    let body = reqwest::Body::wrap_stream(futures_util::StreamExt::take(parts, 200));
    let request = reqwest::Client::new().post(format!("{}/api/v1/records", hub.url()));
    if let Ok(answer) = request.header("content-type", CONTENT_TYPE).body(body).send().await {
        assert_eq!(answer.status(), 413);
    }
    assert_eq!(node.check_in(1).await.watermarks[0].seq, 2);
    hub.stop().await;
}
