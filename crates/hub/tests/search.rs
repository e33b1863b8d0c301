//! Nodes say what they are, expressions find them, groups and labels are kept, and every act is in the audit log.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod fleet;

use fleet::FakeNode;
use hub::server::{Hub, Running};
use serde_json::{Value, json};
use wire::world::System;

struct Stand {
    hub: Running,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Stand {
    async fn new() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::start(fleet::config(folder.path()).await, System::new()).await.unwrap();
        Stand { hub, http: reqwest::Client::new(), _folder: folder }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut url = reqwest::Url::parse(&format!("{}/api/v1{path}", self.hub.url())).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn names(&self, query: &[(&str, &str)]) -> Vec<String> {
        let (status, page) = self.ask("GET", "/nodes", query, None).await;
        assert_eq!(status, 200, "{page}");
        let names = page["nodes"].as_array().unwrap().iter();
        names.map(|node| node["node"].as_str().unwrap().to_owned()).collect()
    }

    /// Checks a node in with an inventory; the answer.
    async fn tell(&self, node: &FakeNode, seq: u64, base: u64, set: Value, drop: &[&str]) -> Value {
        let mut checkin = serde_json::to_value(node.checkin(1)).unwrap();
        checkin["inventory"] = json!({"seq": seq, "base": base, "set": set, "drop": drop});
        let answer = node.post("/api/v1/checkin", "application/json", checkin.to_string().into_bytes()).await;
        answer.json().await.unwrap()
    }
}

#[tokio::test]
async fn nodes_are_found_by_what_they_say() {
    let stand = Stand::new().await;
    let mut nodes = Vec::new();
    for (at, (name, site, ram)) in
        [("a", "oslo", 1 << 30), ("b", "oslo", 4_u64 << 30), ("c", "bergen", 4 << 30)].into_iter().enumerate()
    {
        let node = FakeNode::new(&stand.hub.url(), name, at as u64);
        let set =
            json!({"ram": ram, "arch": "x86_64", "isa": ["avx2"], "label.site": site, "model.smollm2": 6});
        assert_eq!(stand.tell(&node, 1, 0, set, &[]).await["full"], Value::Null);
        nodes.push(node);
    }
    // One that says nothing of itself is asked to, and is found by its name.
    let quiet = FakeNode::new(&stand.hub.url(), "d", 9);
    let answer =
        quiet.post("/api/v1/checkin", "application/json", serde_json::to_vec(&quiet.checkin(1)).unwrap());
    assert_eq!(answer.await.json::<Value>().await.unwrap()["full"], true);

    for (expression, found) in [
        ("all", vec!["a", "b", "c", "d"]),
        ("site == \"oslo\"", vec!["a", "b"]),
        ("site == \"oslo\" && ram >= 2GiB", vec!["b"]),
        ("!(site == \"oslo\")", vec!["c", "d"]),
        ("name ~ \"?\" && !arch", vec!["d"]),
        ("state == \"up\" && seen < 5m && model.smollm2 == 6", vec!["a", "b", "c"]),
        ("state == \"silent\"", vec![]),
    ] {
        assert_eq!(stand.names(&[("where", expression)]).await, found, "{expression}");
    }
    assert_eq!(stand.names(&[("where", "all"), ("limit", "2"), ("after", "b")]).await, ["c", "d"]);
    assert_eq!(stand.names(&[("sort", "health"), ("limit", "2"), ("after", "c")]).await, ["d"]);

    // Differences are applied to what is held, and to nothing else.
    let moved = json!({"label.site": "bergen"});
    assert_eq!(stand.tell(&nodes[0], 2, 1, moved.clone(), &["isa"]).await["full"], Value::Null);
    assert_eq!(stand.names(&[("where", "site == \"bergen\"")]).await, ["a", "c"]);
    assert_eq!(stand.tell(&nodes[1], 9, 8, moved, &[]).await["full"], true);
    assert_eq!(stand.names(&[("where", "site == \"bergen\"")]).await, ["a", "c"]);

    let (status, bad) = stand.ask("GET", "/nodes", &[("where", "site = \"oslo\"")], None).await;
    assert_eq!((status, &bad["error"]["code"]), (400, &json!("bad-expression")), "{bad}");
    assert_eq!(bad["error"]["span"], json!({"from": 5, "to": 6}));
    let (_, why) =
        stand.ask("GET", "/nodes/a/why", &[("where", "ram >= 2GiB || site == \"bergen\"")], None).await;
    assert_eq!(why["holds"], true);
    assert_eq!(why["terms"][0], json!({"term": "ram >= 2GiB", "holds": false, "found": "1073741824"}));
    let (_, map) = stand.ask("GET", "/labels", &[("one", "site")], None).await;
    assert_eq!(map["labels"], json!([{"label": "site", "nodes": 3}]));
    let counts: Vec<_> =
        map["cells"].as_array().unwrap().iter().map(|cell| (&cell["one"], &cell["nodes"])).collect();
    assert_eq!(
        counts,
        [(&Value::Null, &json!(1)), (&json!("bergen"), &json!(2)), (&json!("oslo"), &json!(1))]
    );
    stand.hub.stop().await;
}

#[tokio::test]
async fn groups_and_labels_are_kept_and_every_act_is_told() {
    let stand = Stand::new().await;
    let node = FakeNode::new(&stand.hub.url(), "a", 1);
    stand.tell(&node, 1, 0, json!({"label.site": "oslo"}), &[]).await;

    let put = |expression: &str| Some(json!({"expression": expression}));
    assert_eq!(stand.ask("PUT", "/groups/north", &[], put("site == \"oslo\"")).await.0, 204);
    for (name, expression, code) in [
        ("north", "site ==", "bad-expression"),
        ("other", "group.north", "group-in-group"),
        ("N", "all", "bad-name"),
    ] {
        let (status, refused) = stand.ask("PUT", &format!("/groups/{name}"), &[], put(expression)).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!(code)));
    }
    assert_eq!(stand.ask("GET", "/groups/north", &[], None).await.1["nodes"], 1);
    assert_eq!(stand.names(&[("where", "group.north && state == \"up\"")]).await, ["a"]);
    assert_eq!(stand.ask("GET", "/nodes", &[("where", "group.none")], None).await.0, 400);

    let set = Some(json!({"set": {"line": "2", "site": "bergen"}}));
    assert_eq!(stand.ask("PUT", "/nodes/a/labels", &[], set).await.1["rev"], 1);
    let (_, page) = stand.ask("GET", "/nodes", &[], None).await;
    // Its own settings win; what is set here is shown before the node has it, and asked for when it says it.
    assert_eq!(page["nodes"][0]["labels"], json!({"line": "2", "site": "oslo"}));
    assert_eq!(stand.names(&[("where", "line == \"2\"")]).await, [""; 0]);
    let answer = stand.tell(&node, 2, 1, json!({"label.line": "2"}), &[]).await;
    assert_eq!(answer["labels"], json!({"rev": 1, "set": {"line": "2", "site": "bergen"}}));
    assert_eq!(stand.names(&[("where", "line == \"2\"")]).await, ["a"]);
    let bad = Some(json!({"set": {"in": "2"}}));
    assert_eq!(stand.ask("PUT", "/nodes/a/labels", &[], bad).await.0, 400);
    assert_eq!(stand.ask("PUT", "/nodes/none/labels", &[], Some(json!({"set": {}}))).await.0, 404);

    assert_eq!(stand.ask("DELETE", "/groups/north", &[], None).await.0, 204);
    assert_eq!(stand.ask("DELETE", "/groups/north", &[], None).await.0, 404);
    stand.hub.stop().await;
}
