//! The API answers what was put in, says why when it does not, and tells everybody who looks.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod fleet;

use std::collections::BTreeMap;
use std::time::Duration;

use fleet::FakeNode;
use hub::config::HubConfig;
use hub::server::{Hub, HubError, Running};
use serde_json::{Value, json};
use wire::body::{
    ChannelSummary, Decision, Episode, Inference, ModelRef, ModelSummary, Ran, RuleState, Severity, Share,
    Summary,
};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{Clock, Simulated, System};

async fn hub_with(
    change: impl FnOnce(&mut HubConfig),
    world: impl wire::world::World + Clone + Sync + 'static,
) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = fleet::config(folder.path()).await;
    change(&mut config);
    (Hub::start(config, world).await.unwrap(), folder)
}

async fn get(hub: &Running, path: &str) -> Value {
    let answer = reqwest::get(format!("{}{path}", hub.url())).await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {status} {text}"))
}

fn name(text: &str) -> PartName {
    PartName::new(text).unwrap()
}

fn summary(to_ms: i64, mean: f64) -> Summary {
    let channel = |channel: &str, mean: f64| ChannelSummary {
        channel: channel.into(),
        min: mean - 1.0,
        mean,
        max: mean + 1.0,
        missing: 0,
        isolated: 0,
    };
    Summary {
        source: name("pump"),
        from_ms: to_ms - 9_000,
        to_ms,
        count: 10,
        channels: vec![channel("pressure", mean), channel("flow", f64::NAN)],
        models: vec![ModelSummary { model: name("health"), score: 0.5, probability: Some(0.25) }],
    }
}

fn inference(state: Episode, since_ms: i64, at_ms: i64) -> Inference {
    Inference {
        model: ModelRef { name: name("health"), variant: "subspace".into(), digest: None },
        source: name("pump"),
        state,
        since_ms,
        at_ms,
        score: 1.5,
        probability: Some(0.99),
        channels: vec![Share { channel: "pressure".into(), share: 1.0 }],
        input: Hash::GENESIS,
        latency_us: 9,
    }
}

fn decision(state: RuleState, at_ms: i64, why: &str) -> Decision {
    Decision {
        rule: name("hot"),
        state,
        severity: Severity::Critical,
        source: name("pump"),
        since_ms: at_ms - 2000,
        at_ms,
        when: "health.p > 0.9".into(),
        value: 0.99,
        model: None,
        input: Hash::GENESIS,
        ran: Ran::Rule,
        why: why.into(),
        confidence: None,
        latency_us: 9,
        joules: None,
        labels: std::collections::BTreeMap::new(),
    }
}

/// With the keys of every object in order, however this was built.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.into_iter().collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// Changing it is fine; doing so without noticing is not.
#[tokio::test]
async fn the_description_is_golden() {
    let (hub, _folder) = hub_with(|_| {}, System::new()).await;
    let found = get(&hub, "/api/v1/openapi.json").await;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&sorted(found.clone())).unwrap() + "\n").unwrap();
    }
    // As values: whether objects keep the order of their keys depends on what else is built.
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_default()).unwrap();
    assert!(
        golden == found,
        "the API changed; if that is meant: UPDATE_GOLDEN=1 cargo test -p hub --test api"
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_series_has_points_anomalies_and_alerts() {
    let world = Simulated::new(1);
    let now_ms = world.wall_ms();
    let (hub, _folder) = hub_with(|_| {}, world).await;
    let mut node = FakeNode::new(&hub.url(), "a", 1);
    for (n, mean) in [(6, 2.0), (5, 4.0), (4, 3.0), (1, 5.0)] {
        node.write("metrics", Class::Metric, 1, &summary(now_ms - n * 10_000, mean));
    }
    node.write("events", Class::Event, 1, &inference(Episode::Begins, now_ms - 45_000, now_ms - 45_000));
    node.write("events", Class::Event, 1, &inference(Episode::Ends, now_ms - 45_000, now_ms - 15_000));
    node.write("decisions", Class::Audit, 1, &decision(RuleState::Firing, now_ms - 40_000, "held for 2 s"));
    node.sync().await;

    let series = get(&hub, "/api/v1/nodes/a/series?span_ms=60000&points=60").await;
    assert_eq!((&series["from_ms"], &series["to_ms"]), (&json!(now_ms - 60_000), &json!(now_ms)));
    assert_eq!(series["t_ms"].as_array().unwrap().len(), 4);
    assert_eq!(series["channels"][0]["mean"], json!([2.0, 4.0, 3.0, 5.0]));
    assert_eq!(series["channels"][1]["mean"], json!([null, null, null, null]));
    assert_eq!(series["episodes"][0]["ended_ms"], json!(now_ms - 15_000));
    assert_eq!(series["alerts"][0]["why"], "held for 2 s");
    let coarse = get(&hub, "/api/v1/nodes/a/series?source=pump&span_ms=60000&points=2").await;
    assert_eq!(coarse["channels"][0]["mean"], json!([3.0, 5.0]));
    assert_eq!(coarse["channels"][0]["max"], json!([5.0, 6.0]));

    let overview = get(&hub, "/api/v1/overview").await;
    assert_eq!(overview["anomalies"][0]["line"]["channel"], "pressure");
    assert_eq!((&overview["alerts_critical"], &overview["records"]), (&json!(1), &json!(7)));
    hub.stop().await;
}

#[tokio::test]
async fn an_alert_fires_once_and_clears() {
    let (hub, _folder) = hub_with(|_| {}, System::new()).await;
    let mut node = FakeNode::new(&hub.url(), "a", 1);
    node.write("decisions", Class::Audit, 1, &decision(RuleState::Firing, 10_000, "first"));
    node.write("decisions", Class::Audit, 1, &decision(RuleState::Firing, 20_000, "still"));
    let again = node.batch("decisions", 2);
    node.sync().await;
    node.send(&again).await;
    let firing = get(&hub, "/api/v1/alerts?state=firing&node=a").await;
    let alert = &firing["alerts"][0];
    assert_eq!(firing["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&alert["count"], &alert["fired_ms"], &alert["why"]),
        (&json!(2), &json!(10_000), &json!("still"))
    );
    assert_eq!((&alert["record"]["stream"], &alert["record"]["seq"]), (&json!("decisions"), &json!(1)));

    let id = alert["id"].as_i64().unwrap();
    let ack = |id: i64| {
        let request = reqwest::Client::new().post(format!("{}/api/v1/alerts/{id}/ack", hub.url()));
        request.json(&json!({"note": "ann looks after it"})).send()
    };
    let acked: Value = ack(id).await.unwrap().json().await.unwrap();
    assert_eq!(acked["acked"]["note"], "ann looks after it");
    assert_eq!(ack(id + 1).await.unwrap().status(), 404);
    let log = get(&hub, "/api/v1/audit?act=alert.ack").await;
    assert_eq!(
        (&log["entries"][0]["about"], &log["entries"][0]["entry"]["why"]),
        (&json!("a"), &acked["acked"]["note"])
    );
    assert_eq!(get(&hub, "/api/v1/alerts").await["alerts"][0]["acked"]["by"], "operator:everybody");

    node.write("decisions", Class::Audit, 1, &decision(RuleState::Cleared, 30_000, "over"));
    node.write("decisions", Class::Audit, 1, &decision(RuleState::Cleared, 40_000, "over twice"));
    node.write("decisions", Class::Audit, 1, &decision(RuleState::Firing, 50_000, "anew"));
    node.sync().await;
    let all = get(&hub, "/api/v1/alerts").await;
    let states: Vec<_> =
        all["alerts"].as_array().unwrap().iter().map(|alert| alert["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["firing", "cleared"]);
    assert_eq!(all["alerts"][1]["cleared_ms"], 30_000);
    hub.stop().await;
}

#[tokio::test]
async fn a_silent_node_is_noticed_and_comes_back() {
    let world = Simulated::new(1);
    let (hub, _folder) = hub_with(|_| {}, world.clone()).await;
    let node = FakeNode::new(&hub.url(), "a", 1);
    assert_eq!(node.check_in(5).await.next_ms, 10_000);
    // The hub looks every two seconds of real time; its wall clock and its monotonic clock move together.
    world.advance_ms(61_000);
    let until = |state: &'static str| {
        let hub = &hub;
        async move {
            for _ in 0..80 {
                if get(hub, "/api/v1/nodes/a").await["state"] == state {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!("not {state}");
        }
    };
    until("silent").await;
    assert_eq!(get(&hub, "/api/v1/alerts?state=firing").await["alerts"][0]["rule"], "node-silent");
    node.check_in(5).await;
    until("up").await;
    assert_eq!(get(&hub, "/api/v1/alerts?state=cleared").await["alerts"][0]["rule"], "node-silent");
    hub.stop().await;
}

#[tokio::test]
async fn unknown_words_of_newer_nodes_are_kept() {
    let (hub, _folder) = hub_with(|_| {}, System::new()).await;
    let node = FakeNode::new(&hub.url(), "a", 1);
    let mut checkin = serde_json::to_value(node.checkin(5)).unwrap();
    checkin["gpu"] = json!({"name": "orin"});
    let manifest = "0".repeat(64);
    checkin["slots"] =
        json!([{"model": "m", "current": {"release": 6, "variant": "v", "manifest": manifest}}]);
    checkin["trust"] = json!({"root": 2, "timestamp": 9, "stale_ms": 0});
    let text = checkin.to_string();
    node.post("/api/v1/checkin", "application/json", text.clone().into_bytes()).await;
    let detail = get(&hub, "/api/v1/nodes/a").await;
    assert_eq!(detail["checkin"], checkin);
    assert_eq!(detail["slots"][0]["manifest"], manifest);
    assert_eq!((&detail["slots"][0]["release"], &detail["trust"]["timestamp"]), (&json!(6), &json!(9)));
    hub.stop().await;
}

#[tokio::test]
async fn those_who_look_are_told() {
    let (hub, _folder) = hub_with(|config| config.live_max = 2, System::new()).await;
    let mut node = FakeNode::new(&hub.url(), "a", 1);
    let mut other = FakeNode::new(&hub.url(), "b", 2);
    node.check_in(1).await;
    let mut one = reqwest::get(format!("{}/api/v1/nodes/a/live", hub.url())).await.unwrap();
    let mut all = reqwest::get(format!("{}/api/v1/live", hub.url())).await.unwrap();
    let third = reqwest::get(format!("{}/api/v1/live", hub.url())).await.unwrap();
    assert_eq!(third.status(), 503);
    other.write("metrics", Class::Metric, 1, &summary(20_000, 1.0));
    other.sync().await;
    node.write("metrics", Class::Metric, 1, &summary(10_000, 2.0));
    node.write("decisions", Class::Audit, 1, &decision(RuleState::Firing, 10_000, "first"));
    node.write_text("metrics", Class::Metric, "note", 1, "{\"kind\":\"that no page draws\"}");
    node.write_text("metrics", Class::Metric, "summary", 1, &format!("\"{}\"", "x".repeat(100_000)));
    node.sync().await;
    node.check_in(1).await;
    async fn until(answer: &mut reqwest::Response, end: &str) -> String {
        let mut text = String::new();
        while !text.contains(end) {
            let chunk =
                tokio::time::timeout(Duration::from_secs(5), answer.chunk()).await.unwrap().unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        text
    }
    let text = until(&mut one, "event: node").await;
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    // Streams are sent in the order of their names.
    assert_eq!(names, ["hello", "decision", "summary", "summary", "node"]);
    let data: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!((&data[2]["node"], &data[2]["body"]["to_ms"]), (&json!("a"), &json!(10_000)));
    assert_eq!(data[3]["body"], Value::Null, "what is too large for the ring comes without its body");
    assert!(until(&mut all, "event: node").await.contains("\"node\":\"b\""));
    // A hub that stops ends what it streams.
    hub.stop().await;
    assert!(
        tokio::time::timeout(Duration::from_secs(5), async { while let Ok(Some(_)) = one.chunk().await {} })
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let (hub, _folder) = hub_with(|_| {}, System::new()).await;
    for (path, status, code) in [
        ("/api/v1/nodes/%ff", 400, "bad-text"),
        ("/api/v1/alerts?node=a%00", 400, "bad-text"),
        ("/api/v1/alerts?limit=0", 400, "bad-query"),
        ("/api/v1/nodes/none", 404, "not-found"),
        ("/api/v1/nodes/%3Cscript%3E", 404, "not-found"),
        ("/api/v1/records/a/b/c/1", 404, "not-found"),
        ("/api/v1/records/a/b/c/x", 404, "not-found"),
        ("/api/v1/records?limit=many", 400, "bad-query"),
        ("/api/v1/records?colour=red", 400, "bad-query"),
        ("/api/v1/alerts?state=loud", 400, "bad-query"),
        ("/api/v1/nothing", 404, "not-found"),
        ("/api/v1/checkin", 405, "method"),
    ] {
        let answer = reqwest::get(format!("{}{path}", hub.url())).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "{path}");
        assert!(!body["error"]["mend"].as_str().unwrap().is_empty(), "{path}");
    }
    let client = reqwest::Client::new();
    let put = |kind: &str, body: &str| {
        let request = client.put(format!("{}/api/v1/groups/g", hub.url())).header("content-type", kind);
        request.body(body.to_owned()).send()
    };
    let (json, all) = ("application/json; charset=utf-8", r#"{"expression":"all"}"#);
    assert_eq!(put("application/x-www-form-urlencoded", all).await.unwrap().status(), 415);
    assert_eq!(put(json, r#"{"expression":"name == \"\u0000\""}"#).await.unwrap().status(), 400);
    assert_eq!(put(json, all).await.unwrap().status(), 204);
    let other = client.patch(format!("{}/api/v1/groups/g", hub.url())).send().await.unwrap();
    assert_eq!(
        (other.status().as_u16(), &other.headers()["allow"]),
        (405, &"GET, HEAD, PUT, DELETE".parse().unwrap())
    );
    hub.stop().await;
}

#[tokio::test]
async fn limits_hold() {
    let (hub, _folder) = hub_with(|config| config.nodes_max = 1, System::new()).await;
    FakeNode::new(&hub.url(), "a", 1).check_in(1).await;
    let mut second = FakeNode::new(&hub.url(), "b", 2);
    let answer = second
        .post("/api/v1/checkin", "application/json", serde_json::to_vec(&second.checkin(1)).unwrap())
        .await;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "full");
    second.write_text("metrics", Class::Metric, "note", 1, "1");
    assert_eq!(second.send(&second.batch("metrics", 1)).await.status(), 403);
    hub.stop().await;
}

#[tokio::test]
async fn the_hubs_own_numbers() {
    let (hub, _folder) = hub_with(|_| {}, System::new()).await;
    let mut node = FakeNode::new(&hub.url(), "a", 1);
    node.write_text("metrics", Class::Metric, "note", 1, "1");
    node.sync().await;
    node.check_in(1).await;
    let mut text = String::new();
    for _ in 0..100 {
        text = reqwest::get(format!("{}/metrics", hub.url())).await.unwrap().text().await.unwrap();
        // A hub counts itself a moment after it began.
        if text.lines().any(|found| found == "hub_replicas 1") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for line in [
        "hub_records_total 1",
        "hub_batches_total{outcome=\"stored\"} 1",
        "hub_nodes 1",
        "hub_nodes_conflict 0",
        "hub_nodes_strange 0",
        "hub_replicas 1",
        "hub_checkins_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(get(&hub, "/health").await["status"], "ok");
    hub.stop().await;
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "0123456789abcdef0123\n").unwrap();
    let (hub, _data) = hub_with(|config| config.token_file = Some(token_file), System::new()).await;
    let mut node = FakeNode::new(&hub.url(), "a", 1);
    let checkin = serde_json::to_vec(&node.checkin(1)).unwrap();
    assert_eq!(node.post("/api/v1/checkin", "application/json", checkin.clone()).await.status(), 401);
    node.token = Some("0123456789abcdef0124".into());
    assert_eq!(node.post("/api/v1/checkin", "application/json", checkin).await.status(), 401);
    node.token = Some("0123456789abcdef0123".into());
    assert_eq!(node.check_in(1).await.watermarks, []);
    for (path, status) in [
        ("/api/v1/overview", 401),
        ("/metrics", 401),
        ("/health", 200),
        ("/login", 200),
        ("/assets/app.css", 200),
    ] {
        assert_eq!(reqwest::get(format!("{}{path}", hub.url())).await.unwrap().status(), status, "{path}");
    }

    // A person: sent to the door, let in with the token, out again.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let page =
        |cookie: String| client.get(hub.url()).header("accept", "text/html").header("cookie", cookie).send();
    let sent = page(String::new()).await.unwrap();
    assert_eq!(
        (sent.status(), sent.headers()["location"].to_str().unwrap()),
        (303.try_into().unwrap(), "/login")
    );
    let show = |token: &str| {
        let form = client
            .post(format!("{}/login", hub.url()))
            .header("content-type", "application/x-www-form-urlencoded");
        form.body(format!("token={token}")).send()
    };
    assert_eq!(show("wrong").await.unwrap().status(), 401);
    let entered = show("0123456789abcdef0123").await.unwrap();
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(page(cookie.clone()).await.unwrap().status(), 200);
    assert_eq!(page(format!("{cookie}0")).await.unwrap().status(), 303);
    hub.stop().await;
}

#[tokio::test]
async fn other_hosts_and_sites_are_refused() {
    let (hub, _folder) = hub_with(|config| config.hosts = vec!["hub.test".into()], System::new()).await;
    let client = reqwest::Client::new();
    for (host, status) in [("hub.test:80", 200), ("evil.test", 421)] {
        let answer = client.get(format!("{}/health", hub.url())).header("host", host).send().await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
    }
    let cross = client
        .post(format!("{}/login", hub.url()))
        .header("sec-fetch-site", "cross-site")
        .send()
        .await
        .unwrap();
    assert_eq!(cross.status(), 403);
    let headers = cross.headers();
    assert!(headers["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_that_cannot_start_says_why() {
    let (first, folder) = hub_with(|_| {}, System::new()).await;
    let config = HubConfig { listen: first.addr, ..fleet::config(folder.path()).await };
    let error = Hub::start(config.clone(), System::new()).await.unwrap_err();
    assert!(matches!(error, HubError::InUse(_)) && error.to_string().contains("--listen"), "{error}");
    let other_port = HubConfig { listen: "127.0.0.1:0".parse().unwrap(), ..config.clone() };
    let error = Hub::start(other_port, System::new()).await.unwrap_err();
    assert!(error.to_string().contains("another hub is using"), "{error}");
    let open = HubConfig { listen: "0.0.0.0:0".parse().unwrap(), ..config };
    let error = Hub::start(open, System::new()).await.unwrap_err();
    assert!(error.to_string().contains("token_file"), "{error}");
    first.stop().await;
}
