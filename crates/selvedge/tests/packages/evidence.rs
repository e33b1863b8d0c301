//! Evidence that is taken along from a hub: of a rollout and of a node, held to what the log says, by the binary and by the program
//! that travels with it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hub::audit::heads::{Told, write};
use hub::config::{DepotConfig, HubConfig};
use hub::depot::Depot;
use hub::server::Hub;
use hub::store::audit::append;
use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::plant::{PATIENCE_NS, Plant};
use crate::stage::{Ran, files};

const KEY: &str = "hub/audit.pub";

impl Plant {
    /// An hour passes at the hub: what every chain has come to goes into the log. The hub starts again, and publishes it.
    fn tell_heads(&mut self) {
        let (hub, data) = (self.hub.take().unwrap(), self.stage.path("hub"));
        let hub = self.runtime.block_on(async {
            hub.stop().await;
            let mut store = hub::store::open(&data, None).await.unwrap();
            let now_ms = System::new().wall_ms();
            let depot = Depot::open(&DepotConfig::default(), &data, now_ms).unwrap();
            let moved = write(&store.readers, &depot, &Told::default(), now_ms).await.unwrap();
            append(&mut store.writer, &moved.unwrap().0).await.unwrap();
            store.readers.close().await;
            drop(store);
            let listen = "127.0.0.1:0".parse().unwrap();
            let config = HubConfig { listen, data, ..HubConfig::default() };
            Hub::start(config, System::new()).await.unwrap()
        });
        self.url = hub.url();
        self.hub = Some(hub);
    }

    /// `selvedge audit` at the hub.
    fn audits(&self, words: &[&str]) -> Ran {
        self.stage.run(&[&["audit"], words, &["--key", KEY, "--hub", &self.url]].concat())
    }

    /// `selvedge audit verify --records` of a folder.
    fn verify(&self, folder: &str, more: &[&str]) -> Ran {
        let words = ["audit", "verify", "--key", KEY, "--dir", folder, "--records"];
        self.stage.run(&[&words[..], more].concat())
    }

    /// What the program that lies in a folder says of it: whether all holds, and in which words.
    fn program(&self, folder: &str) -> Option<(bool, String)> {
        let key = std::fs::read_to_string(self.stage.path(KEY)).unwrap();
        let program = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(program);
        let ran = command.arg(self.stage.path(folder).join("verify.py")).arg(key.trim()).output().ok()?;
        Some((ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()))
    }

    /// A file of a bundle is another, and everybody who looks says so.
    fn is_found_out(&self, folder: &str, file: &str, from: &str, to: &str, expected: &str) {
        let path = self.stage.path(folder).join(file);
        let whole = std::fs::read_to_string(&path).unwrap();
        let changed = whole.replacen(from, to, 1);
        assert_ne!(whole, changed, "{file}: {whole}");
        std::fs::write(&path, changed).unwrap();
        let Ran { code, out, err } = self.verify(folder, &[]);
        assert!(code == Some(1) && err.contains(expected), "{file}: {out}{err}");
        if let Some((holds, said)) = self.program(folder) {
            assert!(!holds && said.contains(expected), "{file}: {said}");
        }
        std::fs::write(&path, whole).unwrap();
    }
}

/// The one file of a bundle whose place begins so.
fn one(folder: &Path, begin: &str) -> String {
    let found = files(folder);
    let mut names = found.keys().filter_map(|path| path.to_str()).filter(|name| name.starts_with(begin));
    names.next().unwrap_or_else(|| panic!("{begin}: {:?}", found.keys())).to_owned()
}

#[test]
fn what_a_rollout_and_a_node_did_proves_itself_without_the_hub() {
    let mut plant = Plant::new();
    plant.approve("tiny");
    let mut node = plant.node("pump-1");
    let clock = System::new();
    while !plant.knows(1) {
        assert!(clock.mono_ns() < PATIENCE_NS, "{}", plant.log("pump-1"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let url = plant.url.clone();
    let hub = ["--hub", url.as_str()];
    let rollout = |words: &[&str]| plant.stage.run(&[&["rollout"], words, &hub].concat()).ok();
    rollout(&["new", "tiny:7", "--where", "all", "--soak", "0", "--no-revert", "--canary", "pump-1"]);
    let created = rollout(&["create", "plan.json"]);
    let id = created.split("rollout ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let id = id.to_owned();
    rollout(&["sign", &id, "--yes", "--key", "keys/assigner.age"]);
    rollout(&["start", &id, "--why", "a node without a model is none"]);
    plant.until("pump-1", &mut node, |tiny| tiny["kept"]["current"]["release"] == 7);
    while plant.outcomes("pump-1").is_empty() {
        assert!(clock.mono_ns() < PATIENCE_NS, "{}", plant.log("pump-1"));
        std::thread::sleep(Duration::from_millis(50));
    }
    node.stop();
    plant.tell_heads();
    let has_heads = || plant.audits(&["ls", "--last", "5"]).out.contains(" heads ");
    while !has_heads() {
        assert!(clock.mono_ns() < PATIENCE_NS, "the heads are not published");
        std::thread::sleep(Duration::from_millis(100));
    }

    plant.audits(&["export", "--rollout", &id[..8], "-o", "of-rollout"]).ok();
    let exported = plant.audits(&["export", "--node", "pump-1", "-o", "of-node"]).ok();
    assert!(exported.contains("records of nodes, checked"), "{exported}");
    let root = ["--root", "repo/metadata/1.root.json"];
    let said = plant.verify("of-rollout", &root).ok();
    for expected in
        ["1 members stand where", "documents follow from the plan and are signed", "of 1 chains the log has"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("note"), "{said}");
    assert!(plant.verify("of-rollout", &[]).ok().contains("the root of trust is the folder's own"));
    let chains =
        files(&plant.stage.path("of-node")).keys().filter(|path| path.starts_with("records")).count();
    assert!(chains >= 1);
    let said = plant.verify("of-node", &["--json"]).json();
    assert_eq!((said["held"].as_u64(), &said["ok"]), (Some(chains as u64), &Value::Bool(true)), "{said}");
    assert!(said["records"].as_u64() > Some(0), "{said}");
    match plant.program("of-rollout") {
        Some((holds, told)) => {
            assert!(holds && told.contains("are signed by those who might"), "{told}");
            let (holds, told) = plant.program("of-node").unwrap();
            assert!(holds && told.contains(&format!("of {chains} the log has the head")), "{told}");
        }
        None => println!("skipped: there is no python3 to run verify.py"),
    }

    // A list of heads that the log does not tell of, a head that is another's, a signature, who might sign, and the root.
    let of_rollout = plant.stage.path("of-rollout");
    let (list, document) = (one(&of_rollout, "heads/"), one(&of_rollout, "rollout/documents/"));
    let targets = files(&of_rollout.join("trust"));
    let targets = targets.keys().filter_map(|path| path.to_str()).find(|name| name.ends_with("targets.json"));
    let targets = format!("trust/{}", targets.unwrap());
    plant.is_found_out("of-rollout", &list, "\"seq\":", "\"seq\":1", &list);
    plant.is_found_out("of-node", &one(&plant.stage.path("of-node"), "heads/"), "pump-1", "pump-2", "heads/");
    plant.is_found_out(
        "of-rollout",
        &document,
        "\"sig\":\"",
        "\"sig\":\"00",
        "is not signed by those who might",
    );
    plant.is_found_out("of-rollout", &targets, "\"threshold\":1", "\"threshold\":0", &targets);
    plant.is_found_out("of-rollout", "trust/1.root.json", "\"threshold\":2", "\"threshold\":1", "root");
    // A whole repository of somebody else's, which fits itself, is not the one that was handed over.
    plant.stage.run(&["trust", "init", "other", "--keys", "others", "--work", "4"]).ok();
    let Ran { code, err, .. } = plant.verify("of-rollout", &["--root", "other/metadata/1.root.json"]);
    assert!(code == Some(1) && err.contains("is not the root that was handed over"), "{err}");
}
