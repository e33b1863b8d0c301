//! What nodes tell of their models' behaviour, as the store keeps it and as the API gives it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod fleet;

use fleet::FakeNode;
use hub::experiment::sheet::{Sheet, Taken};
use hub::rollout::figures::Hour;
use hub::server::Hub;
use hub::store::experiments::{put_sheet, sheets};
use serde_json::{Value, json};
use wire::class::Class;
use wire::hash::Hash;
use wire::world::{Clock as _, System};

const HOUR_MS: i64 = 3_600_000;

fn behaviour(of: &str, at_ms: i64, p95: u32, failed: u64) -> Value {
    json!({
        "id": format!("{at_ms}"), "model": "tiny", "manifest": Hash::of(of.as_bytes()).to_string(), "from_ms": at_ms,
        "to_ms": at_ms + HOUR_MS, "answered": 100 - failed, "failed": failed, "rss_bytes": 4096,
        "latency_ms": {"p50": p95 / 2, "p95": p95, "n": 100},
    })
}

#[tokio::test]
async fn a_node_behaves_before_its_release_and_since() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(fleet::config(folder.path()).await, System::new()).await.unwrap();
    let now_ms = System::new().wall_ms();
    let mut node = FakeNode::new(&hub.url(), "pump-1", 1);
    for (of, ago, p95, failed) in
        [("six", 30, 40, 2), ("six", 29, 40, 4), ("seven", 28, 20, 1), ("seven", 2, 20, 1)]
    {
        let told = behaviour(of, now_ms - ago * HOUR_MS, p95, failed);
        node.write_text("behaviour", Class::Metric, "behaviour", now_ms, &told.to_string());
    }
    let installs = [("six", 6, 31), ("seven", 7, 28)];
    for (of, release, ago) in installs {
        let told = json!({
            "id": of, "model": "tiny", "release": release, "index": Hash::of(b"index").to_string(),
            "manifest": Hash::of(of.as_bytes()).to_string(), "outcome": "committed", "why": "", "attempt": 1,
        });
        let at_ms = now_ms - ago * HOUR_MS;
        node.write_text("installs", Class::Audit, "install", at_ms, &told.to_string());
    }
    node.sync().await;
    let mut checkin = serde_json::to_value(node.checkin(now_ms)).unwrap();
    let current = json!({"release": 7, "variant": "q4", "manifest": Hash::of(b"seven").to_string()});
    checkin["slots"] = json!([{"model": "tiny", "current": current, "previous": 6}]);
    let answer = node.post("/api/v1/checkin", "application/json", checkin.to_string().into_bytes()).await;
    assert!(answer.status().is_success());

    let ask = async |node: &str| {
        let answer = reqwest::get(format!("{}/api/v1/nodes/{node}/figures", hub.url())).await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap())
    };
    let (status, told) = ask("pump-1").await;
    assert_eq!((status, told["models"].as_array().map(Vec::len)), (200, Some(1)), "{told:#}");
    let told = &told["models"][0];
    assert_eq!((&told["model"], &told["turned_ms"]), (&json!("tiny"), &json!(now_ms - 28 * HOUR_MS)));
    let check = |side: &str, release: u64, p95: f64, failed: f64, hours: [i64; 2]| {
        let side = &told[side];
        let near = |metric: &str, expected: f64| {
            let found = side["figures"][metric].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-9 * expected.max(1.0), "{metric}: {found}");
        };
        near("p95_ms", p95);
        near("failed_share", failed);
        near("rss_bytes", 4096.0);
        assert_eq!(side["figures"].get("joules"), None, "what nobody measured is absent");
        assert_eq!(side["release"], release);
        let hour = |ago: i64| (now_ms - ago * HOUR_MS) / HOUR_MS * HOUR_MS;
        let [from, to] = hours.map(hour);
        assert_eq!((side["from_ms"].as_i64(), side["to_ms"].as_i64()), (Some(from), Some(to + HOUR_MS)));
    };
    check("before", 6, 40.0, 0.03, [30, 29]);
    check("since", 7, 20.0, 0.01, [28, 2]);
    assert_eq!(ask("pump-2").await.0, 404);
    hub.stop().await;
}

#[tokio::test]
async fn what_a_node_tells_of_its_arm_is_kept_and_takes_the_place_of_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let config = fleet::config(folder.path()).await;
    let mut store = hub::store::open(&config.data, config.database.as_ref()).await.unwrap();
    let sheet = |asked: u64, taken: Option<f64>| {
        let mut sheet = Sheet::default();
        let told: wire::body::Behaviour = serde_json::from_value(json!({
            "id": "x", "model": "tiny", "manifest": Hash::GENESIS.to_string(), "from_ms": 0, "to_ms": 1,
            "answered": asked, "failed": 0, "drift": 0.5,
        }))
        .unwrap();
        sheet.hear(&Hour::of(&told), asked);
        sheet.taken = taken.map(|value| Taken { at_ms: 7, value: Some(value) });
        sheet
    };
    // The experiment, the node, and what it told, in their order.
    let kept = [
        ("one", 2, sheet(8, None)),
        ("one", 1, sheet(16, None)),
        ("other", 1, sheet(4, Some(0.25))),
        ("one", 2, sheet(32, Some(-0.5))),
    ];
    for (experiment, node, sheet) in &kept {
        put_sheet(&mut store.writer, experiment, *node, sheet).await.unwrap();
    }
    let mut found = sheets(&mut store.writer, "one").await.unwrap();
    found.sort_by_key(|(node, _)| *node);
    assert_eq!(found, [(1, kept[1].2.clone()), (2, kept[3].2.clone())]);
    assert_eq!(sheets(&mut store.writer, "other").await.unwrap(), [(1, kept[2].2.clone())]);
    assert_eq!(sheets(&mut store.writer, "none").await.unwrap(), []);
    store.readers.close().await;
}
