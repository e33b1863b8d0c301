//! Schemathesis asks a real hub everything that its description lets one think of, and some things that it does not: no answer
//! is a fault of the server, and none has a status, a content type or a body that the description does not know.
//!
//! `SELVEDGE_PYTHON` names a Python that has it; `SELVEDGE_EXAMPLES=400` asks for more than a run by machines has time for.

use std::path::{Path, PathBuf};
use std::process::Command;

use hub::config::HubConfig;
use hub::config::nodes::NodesConfig;
use hub::rollout::{documents, text};
use hub::server::{Hub, Running};
use package::digest::Digest;
use package::name::ModelName;
use reqwest::Method;
use serde_json::{Value, json};
use wire::body::{Decision, Ran, RuleState, Severity};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{Clock as _, System};

use crate::fleet::FakeNode;
use crate::pushing::{Client, Package, repo};
use crate::releases::tell;
use crate::rollouts::{ask, plan, sign, target};
use crate::tuf::{DAY_MS, House, key, put_all, role};

/// The admin's token while nodes have no door of their own.
const TOKEN: &str = "0123456789abcdef0123";

/// What the hub has, by the names that paths have for it.
type Known = serde_json::Map<String, Value>;

fn settings(folder: &Path) -> HubConfig {
    HubConfig { listen: "127.0.0.1:0".parse().unwrap(), data: folder.to_owned(), ..HubConfig::default() }
}

fn client(hub: &Running, token: &str) -> Client {
    Client { token: Some(token.to_owned()), ..Client::of(hub) }
}

/// Fills a hub with one of everything.
async fn fill(client: &Client) -> Known {
    let mut house = House::new(7 * DAY_MS);
    let package = Package::new("smollm2", 7, 1000);
    client.push(&repo("models/smollm2"), "7", &package).await;
    let mut plan = plan(target(7, &package.index), target(6, b"six"), house.now_ms);
    plan.created_by = "operator:token-file".to_owned();
    plan.salt = text::salt(&plan);
    house.delegate("assignments", 10, "assignments/*");
    for target in [&plan.what[0], &plan.revert[0]] {
        let path = format!("models/smollm2/{}", target.release);
        house
            .repository
            .add_target(&role("targets"), &path, (target.size, target.index), None, house.now_ms)
            .unwrap();
    }
    house.sign("targets", &[4]);
    let files = house.publish();
    put_all(client, &house, &files).await;

    for (node, seed) in [("pump-1", 1), ("pump-2", 2)] {
        let facts = json!({"ram": 2000, "disk": 5000, "arch": "x86_64", "isa": ["avx2"], "version": "0.1.0", "site": "oslo"});
        tell(client, node, seed, facts).await;
    }
    let mut node = FakeNode::new(&client.url, "pump-3", 3);
    node.token.clone_from(&client.token);
    let now_ms = System::new().wall_ms();
    node.write("decisions", Class::Audit, now_ms, &decision(now_ms));
    node.write_text("events", Class::Event, "note", now_ms, "{\"a\":1}");
    node.sync().await;
    node.check_in(now_ms).await;

    let done = async |method, path: &str, body: Value| {
        let (status, answer) = ask(client, method, path, body.to_string().into()).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    };
    done(Method::PUT, "/groups/pumps", json!({"expression": "site == \"oslo\""})).await;
    done(Method::PUT, "/nodes/pump-1/labels", json!({"set": {"line": "2"}})).await;
    let (status, answer) = ask(client, Method::POST, "/rollouts", text::write(&plan)).await;
    assert_eq!(status, 201, "{answer}");
    let at = format!("/rollouts/{}", text::id(&plan));
    let signed: Vec<Value> = documents::of(&plan)
        .iter()
        .map(|it| serde_json::from_str(&sign(&it.value, &key(10))).unwrap())
        .collect();
    done(Method::PUT, &format!("{at}/documents"), json!({ "documents": signed })).await;
    done(Method::POST, &format!("{at}/order"), json!({"do": "start", "why": "it is time"})).await;
    let (_, records) = ask(client, Method::GET, "/records?node=pump-3", Vec::new()).await;
    let known = json!({
        "node": "pump-3", "group": "pumps", "model": ModelName::new("smollm2").unwrap().to_string(), "release": "7",
        "id": text::id(&plan).to_string(), "stream": "events", "seq": 1, "journal": records["records"][0]["journal"],
        "name": "ann", "file": "timestamp.json", "sealed": Digest::of(b"x").to_string(), "to": "0".repeat(64),
        "key": "0".repeat(64),
    });
    known.as_object().unwrap().clone()
}

/// Makes an operator; gives a token.
async fn operator(client: &Client, name: &str, role: &str) -> String {
    let (path, ask_role) = (format!("/operators/{name}"), json!({ "role": role }));
    assert_eq!(ask(client, Method::PUT, &path, ask_role.to_string().into()).await.0, 204);
    let (_, made) =
        ask(client, Method::POST, "/tokens", json!({ "operator": name }).to_string().into()).await;
    made["token"].as_str().unwrap().to_owned()
}

fn decision(at_ms: i64) -> Decision {
    Decision {
        rule: PartName::new("hot").unwrap(),
        state: RuleState::Firing,
        severity: Severity::Critical,
        source: PartName::new("pump").unwrap(),
        since_ms: at_ms - 2000,
        at_ms,
        when: "p > 0.9".into(),
        value: 0.99,
        model: None,
        input: Hash::GENESIS,
        ran: Ran::Rule,
        why: "held for 2 s".into(),
        confidence: None,
        latency_us: 9,
        joules: None,
        labels: std::collections::BTreeMap::new(),
    }
}

/// Where schemathesis runs, and how.
struct Asker {
    python: String,
    folder: PathBuf,
    known: Known,
    /// How many made-up requests for each endpoint.
    examples: u32,
}

impl Asker {
    async fn asks(&self, who: &str, hub: &Running, token: &str, more: &[&str]) {
        let described = self.folder.join("openapi.json");
        let description = client(hub, token).get("/api/v1/openapi.json").await.bytes().await.unwrap();
        std::fs::write(&described, description).unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registry");
        let mut command = Command::new(&self.python);
        command.current_dir(&self.folder).env("SCHEMATHESIS_HOOKS", "schemathesis_hooks");
        command.env("PYTHONPATH", &here).env("KNOWN", Value::Object(self.known.clone()).to_string());
        command.args(["-m", "schemathesis.cli", "--config-file"]).arg(here.join("schemathesis.toml"));
        command.env("TOKEN", token).arg("run").arg(&described).args(["--url", &hub.url()]);
        command.args(["--seed", "7", "--max-examples", &self.examples.to_string()]).args(more);
        let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{who}:\n{said}");
        let summary = said.lines().rev().find(|line| line.contains("passed")).unwrap_or_default();
        println!("{who}: {}", summary.trim());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_asked_is_answered_as_described() {
    let python = std::env::var("SELVEDGE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !Command::new(&python)
        .args(["-c", "import schemathesis"])
        .output()
        .is_ok_and(|ran| ran.status.success())
    {
        println!("skipped: schemathesis: {python} does not have it (set SELVEDGE_PYTHON)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let data = folder.path().join("data");
    let config = HubConfig { token_file: Some(token_file), ..settings(&data) };
    let hub = Hub::start(config, System::new()).await.unwrap();
    let ours = client(&hub, TOKEN);
    let known = fill(&ours).await;
    let examples = std::env::var("SELVEDGE_EXAMPLES").ok().and_then(|text| text.parse().ok());
    let mut asker =
        Asker { python, folder: folder.path().to_owned(), known, examples: examples.unwrap_or(10) };
    asker.asks("an admin", &hub, TOKEN, &["--exclude-tag", "identity"]).await;
    // After it, for it takes tokens back and operators out.
    let (admin, viewer) = (operator(&ours, "adam", "admin").await, operator(&ours, "vic", "viewer").await);
    hub.stop().await;

    // With a door for nodes, and so with codes and keys.
    let nodes = NodesConfig { listen: "127.0.0.1:0".parse().unwrap(), names: Vec::new(), connections_max: 8 };
    let hub = Hub::start(HubConfig { nodes: Some(nodes), ..settings(&data) }, System::new()).await.unwrap();
    asker.asks("an admin of nodes", &hub, &admin, &["--include-tag", "identity"]).await;
    asker.examples = asker.examples.div_ceil(3);
    asker.asks("a viewer", &hub, &viewer, &["--phases", "examples,fuzzing"]).await;
    hub.stop().await;
}
