//! The pages say what is there, say what to do where nothing is, and never let a node's text become markup.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod fleet;

use fleet::FakeNode;
use hub::config::HubConfig;
use hub::config::nodes::NodesConfig;
use hub::server::{Hub, Running};
use wire::class::Class;
use wire::world::System;

async fn hub(folder: &std::path::Path) -> Running {
    let config =
        HubConfig { listen: "127.0.0.1:0".parse().unwrap(), data: folder.to_owned(), ..HubConfig::default() };
    Hub::start(config, System::new()).await.unwrap()
}

async fn page(hub: &Running, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("{}{path}", hub.url())).await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn empty_pages_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    for (path, status, says) in [
        ("/", 200, "Start one with <code>selvedge node --config node.toml</code>"),
        ("/nodes", 200, "No node has checked in yet"),
        ("/alerts", 200, "Nothing fires."),
        ("/records", 200, "No record yet"),
        ("/api", 200, "/api/v1/nodes/{node}/series"),
        ("/rollouts/new", 200, "No release is approved yet"),
        ("/enrol", 200, "Nodes have no door of their own here"),
        ("/settings", 200, "asks nobody who they are"),
        ("/audit?verify=yes", 200, "<b><span class=\"good\">✓</span>"),
        ("/nodes/none", 404, "has ever checked in here"),
        ("/records/a/b/c/1", 404, "there is no record"),
        ("/nothing", 404, "There is no page"),
        ("/nodes?limit=x", 400, "the parameters are listed at"),
    ] {
        let (found, html) = page(&hub, path).await;
        assert_eq!(found, status, "{path}");
        assert!(html.contains(says), "{path} does not say {says:?}");
        assert!(html.starts_with("<!doctype html>") && html.contains("<main id=\"main\""), "{path}");
    }
    hub.stop().await;
}

/// Asks as whoever has this token; a form where there is one.
async fn ask(hub: &Running, token: &str, path: &str, form: Option<&str>) -> (u16, String) {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = format!("{}{path}", hub.url());
    let request = match form {
        None => client.get(url),
        Some(form) => {
            let kind = ("content-type", "application/x-www-form-urlencoded");
            client.post(url).header(kind.0, kind.1).body(form.to_owned())
        }
    };
    let answer = request.bearer_auth(token).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// What stands between two words of a page.
fn between<'a>(html: &'a str, from: &str, to: &str) -> &'a str {
    html.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map_or("", |(found, _)| found)
}

#[tokio::test]
async fn who_comes_in_is_an_admins_and_secrets_are_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let nodes = Some(NodesConfig { listen, names: Vec::new(), connections_max: 8 });
    let config = HubConfig { listen, data: folder.path().to_owned(), nodes, ..HubConfig::default() };
    let hub = Hub::start(config, System::new()).await.unwrap();
    let admin = std::fs::read_to_string(folder.path().join("first-admin.token")).unwrap();
    let admin = admin.trim();

    let made = ask(&hub, admin, "/settings/operators", Some("name=ann&role=viewer")).await;
    assert_eq!(made.0, 303, "{}", made.1);
    let (status, html) = ask(&hub, admin, "/settings/tokens", Some("operator=ann&name=hers&days=")).await;
    assert_eq!(status, 200);
    let ann = between(&html, "<p class=\"secret\"><code>", "</code>").to_owned();
    assert!(ann.starts_with("svt_") && ann.len() == 55, "{ann}");
    let again = ask(&hub, admin, "/settings", None).await.1;
    assert!(!again.contains(&ann) && again.contains("hers"), "a token is shown once");

    let (status, html) = ask(&hub, admin, "/enrol", Some("kind=code&name=pump-7&minutes=15")).await;
    assert_eq!(status, 200);
    let command = between(&html, "<code id=\"command\">", "</code>").to_owned();
    let port = hub.nodes_addr.unwrap().port();
    let begins = format!("selvedge node enrol --hub https://127.0.0.1:{port} --code ");
    assert!(command.starts_with(&begins) && command.ends_with(" --name pump-7"), "{command}");
    let code = between(&html, "<code id=\"code\">", "</code>").to_owned();
    let list = ask(&hub, admin, "/enrol", None).await.1;
    assert!(!list.contains(&code) && list.contains("pump-7"), "a code is shown once");
    let withdraw = between(&list, "action=\"/enrol/", "/withdraw").to_owned();
    assert_eq!(ask(&hub, admin, &format!("/enrol/{withdraw}/withdraw"), Some("")).await.0, 303);
    assert!(ask(&hub, admin, "/enrol", None).await.1.contains("No code is out."));

    // A viewer sees who signs, and nobody else's names; and makes nothing.
    let (status, html) = ask(&hub, &ann, "/settings", None).await;
    assert!(status == 200 && html.contains("Who signs") && !html.contains("New operator"), "{html}");
    assert!(ask(&hub, &ann, "/enrol", None).await.1.contains("An admin makes codes"));
    for (path, form) in [
        ("/settings/operators", "name=eve&role=admin"),
        ("/settings/tokens", "operator=ann"),
        ("/enrol", "kind=code&name=pump-8"),
        ("/rollouts/new", "plan={}"),
    ] {
        assert_eq!(ask(&hub, &ann, path, Some(form)).await.0, 403, "{path}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn markup_in_a_nodes_words_stays_words() {
    const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\\\"'";
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let mut node = FakeNode::new(&hub.url(), "a", 1);
    let input = "0".repeat(64);
    node.write_text(
        "decisions",
        Class::Audit,
        "decision",
        1,
        &format!(
            r#"{{"rule":"hot","state":"firing","severity":"warning","source":"pump","since_ms":1,"at_ms":2,
            "when":"{EVIL}","value":1,"model":{{"name":"m","variant":"{EVIL}"}},"input":"{input}","ran":"rule","why":"{EVIL}","latency_us":1}}"#
        ),
    );
    let summary = format!(
        r#"{{"source":"pump","from_ms":1,"to_ms":2,"count":1,"channels":[{{"channel":"{EVIL}","min":1,"mean":1,"max":1}}]}}"#
    );
    node.write_text("metrics", Class::Metric, "summary", 1, &summary);
    node.write_text("metrics", Class::Metric, "note", 1, &format!("\"{EVIL}\""));
    node.write_text(
        "events",
        Class::Event,
        "inference",
        1,
        &format!(
            r#"{{"model":{{"name":"m","variant":"v"}},"source":"pump","state":"begins","since_ms":1,"at_ms":2,"score":2,
            "channels":[{{"channel":"{EVIL}","share":1}}],"input":"{input}","latency_us":1}}"#
        ),
    );
    let install = format!(
        r#"{{"id":"1","model":"{EVIL}","release":1,"index":"{input}","outcome":"{EVIL}","why":"{EVIL}"}}"#
    );
    node.write_text("installs", Class::Audit, "install", 1, &install);
    node.sync().await;
    let mut checkin = serde_json::to_value(node.checkin(1)).unwrap();
    checkin["version"] = EVIL.into();
    checkin["slots"] = serde_json::json!([{"model": EVIL, "safe": EVIL}]);
    checkin["trust"] = serde_json::json!({"lost": EVIL});
    checkin["sources"] =
        serde_json::json!([{"source": "pump", "state": EVIL, "reason": EVIL, "readings": 1, "refused": 0}]);
    node.post("/api/v1/checkin", "application/json", checkin.to_string().into_bytes()).await;

    let record = format!("/records/a/{}/metrics/2", node.journal);
    let mut seen = 0;
    for path in [
        "/",
        "/nodes",
        "/nodes/a",
        "/alerts",
        "/records",
        &record,
        "/records?node=%3Cscript%3Ealert(1)&kind=%22",
    ] {
        let (status, html) = page(&hub, path).await;
        assert_eq!(status, 200, "{path}");
        assert!(!html.contains("<script>alert") && !html.contains("<img"), "{path} lets markup through");
        seen += html.matches("alert(1)").count();
    }
    assert!(seen >= 8, "the words are shown, as words: {seen}");
    hub.stop().await;
}

#[tokio::test]
async fn pages_state_the_facts() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let mut node = FakeNode::new(&hub.url(), "pump-station-7", 1);
    for n in 0..3 {
        node.write_text(
            "notes",
            Class::Raw,
            "note",
            1_767_225_600_000 + n,
            &format!("{{\"n\":1.50,\"z\":{n}}}"),
        );
    }
    node.sync().await;
    node.check_in(1).await;
    let (_, overview) = page(&hub, "/").await;
    assert!(overview.contains("href=\"/nodes/pump-station-7\""));
    let (_, list) = page(&hub, "/records?node=pump-station-7&kind=note").await;
    assert_eq!(list.matches("<code>{&#34;n&#34;:1.50").count(), 3, "{list}");
    let (_, record) = page(&hub, &format!("/records/pump-station-7/{}/notes/2", node.journal)).await;
    for fact in ["chain verified", "1 Jan 00:00:00", ">1.50<", "record 1", "record 3"] {
        assert!(record.contains(fact), "{fact}");
    }
    let (_, detail) = page(&hub, "/nodes/pump-station-7").await;
    for fact in ["9.4 MB", "notes", "No source yet"] {
        assert!(detail.contains(fact), "{fact}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn the_models_of_a_node_and_what_became_of_releases() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let mut node = FakeNode::new(&hub.url(), "a", 1);
    node.check_in(1).await;
    assert!(!page(&hub, "/nodes/a").await.1.contains("<h2>Models</h2>"), "an old node has none");
    let digest = "0".repeat(64);
    let install = format!(
        r#"{{"id":"1","model":"smollm2","release":7,"variant":"q4_k_m","index":"{digest}","outcome":"fell_back","why":"it did not start"}}"#
    );
    node.write_text("installs", Class::Audit, "install", 1, &install);
    node.sync().await;
    let mut checkin = serde_json::to_value(node.checkin(1)).unwrap();
    checkin["slots"] = serde_json::json!([
        {"model": "smollm2", "current": {"release": 6, "variant": "q4_k_m", "manifest": digest},
         "candidate": {"release": 7, "phase": "trial", "misses": 1}, "previous": 5},
        {"model": "tiny", "safe": "no release of it starts"},
    ]);
    checkin["trust"] = serde_json::json!({"root": 1, "stale_ms": 7_200_000});
    let answer = node.post("/api/v1/checkin", "application/json", checkin.to_string().into_bytes()).await;
    assert_eq!(answer.status(), 200);
    let (_, detail) = page(&hub, "/nodes/a").await;
    for fact in [
        "<td>6 <small class=\"faint\">q4_k_m</small></td>",
        "<td>7 <small class=\"faint\">trial</small> <small class=\"warn\">missed 1×</small></td><td>5</td>",
        "tiny is in safe mode, nothing is loaded: no release of it starts",
        "out of date by 2 h",
    ] {
        assert!(detail.contains(fact), "{fact} in {detail}");
    }
    let (_, list) = page(&hub, "/records?node=a&kind=install").await;
    assert!(
        list.contains("<td class=\"glimpse\">smollm2 7 q4_k_m fell back: it did not start</td>"),
        "{list}"
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_rollout_that_only_a_node_knows_is_shown_where_people_look() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    let node = FakeNode::new(&hub.url(), "pump-7", 1);
    let id = "00112233445566778899aabbccddeeff";
    let say = async |accepted: serde_json::Value| {
        let mut checkin = serde_json::to_value(node.checkin(1)).unwrap();
        checkin["accepted"] = accepted;
        let answer = node.post("/api/v1/checkin", "application/json", checkin.to_string().into_bytes()).await;
        assert_eq!(answer.status(), 200);
    };
    // What somebody made by hand, or an older node names, is nobody's rollout.
    say(serde_json::json!([{"id": id, "version": 3}])).await;
    assert!(!page(&hub, "/").await.1.contains("unknown rollouts"));
    say(serde_json::json!([{"id": id, "version": 3, "rollout": id}])).await;
    let (_, overview) = page(&hub, "/").await;
    assert!(overview.contains(">1 with unknown rollouts</a>"), "{overview}");
    let (_, detail) = page(&hub, "/nodes/pump-7").await;
    for fact in ["unknown rollout</span>", id, "selvedge rollout create PLAN.json", "restored from"] {
        assert!(detail.contains(fact), "{fact} in {detail}");
    }
    let (_, found) = page(&hub, "/nodes?where=strange").await;
    assert!(found.contains("href=\"/nodes/pump-7\""), "{found}");
    let view: serde_json::Value =
        reqwest::get(format!("{}/api/v1/recovery", hub.url())).await.unwrap().json().await.unwrap();
    let unknown = serde_json::json!([{"id": id, "version": 3, "nodes": 1}]);
    assert_eq!((&view["unknown"], &view["behind"]), (&unknown, &false.into()), "{view:#}");
    say(serde_json::json!([])).await;
    assert!(!page(&hub, "/").await.1.contains("unknown rollouts"));
    hub.stop().await;
}

#[tokio::test]
async fn nothing_inline_that_the_policy_forbids() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path()).await;
    FakeNode::new(&hub.url(), "a", 1).check_in(1).await;
    for path in ["/", "/nodes", "/nodes/a", "/alerts", "/records", "/api"] {
        let (_, html) = page(&hub, path).await;
        for forbidden in ["<script>", " style=\"", " onclick=", "javascript:", "http://www", "https://"] {
            assert!(!html.contains(forbidden), "{path} has {forbidden}");
        }
        // Every file the page asks for is there.
        for part in html.split("=\"/assets/").skip(1) {
            let file = part.split('"').next().unwrap();
            let answer = reqwest::get(format!("{}/assets/{file}", hub.url())).await.unwrap();
            assert_eq!(answer.status(), 200, "{file}");
        }
    }
    hub.stop().await;
}
