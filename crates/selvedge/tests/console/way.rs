//! The whole way, by keyboard alone: devices come in, a release goes to them in waves, a bad one stops itself and goes back,
//! and the log of it all stands. Real nodes, real keys; what is signed is signed by the binary.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hub::config::HubConfig;
use hub::config::nodes::NodesConfig;
use hub::server::{Hub, Running as RunningHub};
use lm::specimen::Specimen;
use serde_json::json;
use tokio::runtime::Runtime;
use wire::hash::Hash;
use wire::world::System;

use crate::browser::Browser;
use crate::picture::keep;
use crate::process::Running;
use crate::stage::Stage;

const FLEET: [&str; 3] = ["pump-1", "pump-2", "pump-3"];
const SOON: Duration = Duration::from_secs(30);
/// The longest that a wave or the log may take.
const PATIENCE: Duration = Duration::from_secs(100);

/// A stage with a hub that knows people and nodes apart.
struct Plant {
    stage: Stage,
    runtime: Runtime,
    hub: RunningHub,
    nodes: BTreeMap<&'static str, (Running, String)>,
}

impl Plant {
    fn new() -> Plant {
        let stage = Stage::new();
        pack(&stage, "7", Specimen { width: 256, feed_forward: 512, ..Specimen::SMALL });
        stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
        stage.run(&["trust", "key", "new", "keys/assigner.age", "--work", "4"]).ok();
        let keys = ["targets", "assigner", "snapshot", "timestamp"];
        stage.trust(&["delegate", "repo", "assignments", "--add", "keys/assigner.pub.json"], &keys).ok();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut config = HubConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: stage.path("hub"),
            check_in_ms: 200,
            ..HubConfig::default()
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        config.nodes = Some(NodesConfig { listen, names: Vec::new(), connections_max: 64 });
        let hub = runtime.block_on(Hub::start(config, System::new())).unwrap();
        Plant { stage, runtime, hub, nodes: BTreeMap::new() }
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.stage.path("hub/first-admin.token")).unwrap().trim().to_owned()
    }

    /// A verb at the hub, as its first admin.
    fn verb(&self, words: &[&str]) -> String {
        let url = self.hub.url();
        let more = ["--hub", &url, "--token-file", "hub/first-admin.token"];
        self.stage.run(&[words, &more].concat()).ok()
    }

    fn publish(&self, release: &str) {
        let package = format!("tiny-{release}");
        self.verb(&["push", &package, "hub:tiny"]);
        self.stage.trust(&["add", "repo", &package], &["targets", "snapshot", "timestamp"]).ok();
        self.verb(&["trust", "push", "repo"]);
    }

    fn settings(&self, name: &str) {
        let door = self.hub.nodes_addr.unwrap();
        let config = format!(
            "[node]\nname = \"{name}\"\ndata = \"{name}\"\nlabels = {{ site = \"oslo\" }}\n[hub]\nurl = \"https://{door}\"\n\
             [serve]\nlisten = \"127.0.0.1:0\"\n\
             [packages]\nevery = \"1h\"\ntrial = \"1s\"\ntrial_answers = 2\nkeep_free = \"1MiB\"\n\
             [trust]\nroot = \"repo/metadata/1.root.json\"\n"
        );
        self.stage.write(&format!("{name}.toml"), &config);
        self.stage.write("flow.toml", "[source.door]\ntype = \"http\"\n");
    }

    /// Types on the device what the page says.
    fn enrol(&self, name: &str, command: &str) {
        let config = format!("{name}.toml");
        let mut words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words.remove(0), "selvedge");
        self.stage.run(&[&words[..], &["--config", &config]].concat()).ok();
    }

    fn start(&mut self, name: &'static str) {
        let log = std::fs::File::create(self.stage.path(&format!("{name}.log"))).unwrap();
        let mut command = self.stage.command(&["node", "--config", &format!("{name}.toml")]);
        let mut child: Child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let models = line.split("language models ").nth(1).and_then(|rest| rest.split("/v1").next());
        let models = models.unwrap_or_else(|| panic!("{line}")).to_owned();
        self.nodes.insert(name, (Running(child), models));
    }

    /// Asks every node's model something, if it answers now: a trial takes answers.
    fn ask(&self) {
        let body =
            json!({ "model": "tiny", "prompt": "the heat", "max_tokens": 4, "temperature": 0 }).to_string();
        for (_, models) in self.nodes.values() {
            let request = reqwest::Client::new().post(format!("{models}/v1/completions"));
            let request = request.header("content-type", "application/json").body(body.clone());
            drop(self.runtime.block_on(request.send()));
        }
    }

    /// Waits for a page while the models are used.
    fn until(&self, browser: &mut Browser, condition: &str) {
        let deadline = Instant::now() + PATIENCE;
        while browser.evaluate(&format!("!!({condition})")) != json!(true) {
            if Instant::now() >= deadline {
                let text = browser.evaluate("document.title + ': ' + document.body.innerText");
                let log = std::fs::read_to_string(self.stage.path("pump-1.log")).unwrap_or_default();
                panic!("not within {PATIENCE:?}: {condition}; the page shows {text}\n{log}");
            }
            self.ask();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Plans a rollout of a release on the page, signs it with the binary, and starts it on the page.
    fn roll_out(&self, browser: &mut Browser, release: &str, revert: usize) {
        go(browser, "n", "/rollouts/new");
        tab_to(browser, "select[name=what]");
        choose(browser, &format!("tiny:{release}"));
        tab_to(browser, "input[name=group]");
        browser.type_text("site == \"oslo\"");
        browser.wait_for("document.getElementById('matched').textContent === '3 nodes'", SOON);
        tab_to(browser, "summary");
        browser.key("Enter");
        tab_to(browser, "select[name=revert]");
        (0..revert).for_each(|_| browser.key("ArrowDown"));
        tab_to(browser, "input[name=soak_min]");
        browser.type_text("0");
        tab_to(browser, "input[name=note]");
        browser.type_text("fewer bits, the same answers");
        tab_to(browser, ".plan-form > button");
        browser.key("Enter");
        browser.wait_for("document.querySelector('.create')", SOON);
        let shown = browser.evaluate("document.getElementById('preview').innerText");
        let shown = shown.as_str().unwrap();
        for told in ["3 of 3 nodes", "Wave 1", "1 node proves little", "f32"] {
            assert!(shown.contains(told), "{told}: {shown}");
        }
        everywhere(browser, &format!("plan-{release}"));
        tab_to(browser, ".create button");
        browser.key("Enter");
        browser.wait_for("document.getElementById('phase')?.innerText === 'draft'", SOON);
        keep(browser, &format!("way-draft-{release}.png"));
        let typed = browser.evaluate("document.querySelector('.typed code').textContent");
        let words: Vec<&str> = typed.as_str().unwrap().split_whitespace().collect();
        assert_eq!(words[..3], ["selvedge", "rollout", "sign"]);
        let sign = ["rollout", "sign", words[3], "--key", "keys/assigner.age", "--yes"];
        let signed = self.verb(&sign);
        assert!(signed.contains("is ready"), "{signed}");
        // The page hears of it by itself.
        browser.wait_for("document.getElementById('phase')?.innerText === 'ready'", SOON);
        tab_to(browser, "input[name=why]");
        browser.type_text("tested on the bench");
        tab_to(browser, "button[formaction$='/start']");
        browser.key("Enter");
        browser.wait_for("['running', 'soaking', 'held', 'reverting', 'reverted'].includes(document.getElementById('phase')?.innerText)", SOON);
    }
}

/// Packs a model and what it answers.
fn pack(stage: &Stage, release: &str, model: Specimen) {
    let weights = format!("full-{release}.gguf");
    model.write(&mut std::fs::File::create(stage.path(&weights)).unwrap()).unwrap();
    let output = format!("tiny-{release}");
    let words = ["pack", &weights, "--model", "tiny", "--release", release, "-o", &output];
    let more = ["--golden-from", "prompts.txt", "--licence", "Apache-2.0"];
    stage.run(&[&words[..], &more].concat()).ok();
}

/// Changes a digit of a golden answer, and every digest that follows from it: a package that is whole, and wrong.
fn spoil(package: &Path) {
    let blobs = package.join("blobs/sha256");
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(text) = std::fs::read_to_string(&path) {
            texts.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), text);
        }
    }
    let golden = texts.values_mut().find(|text| text.contains("\"tokens\":[")).unwrap();
    let from = golden.find("\"tokens\":[").unwrap() + 10;
    let last = from + golden[from..].find(|c: char| !c.is_ascii_digit()).unwrap() - 1;
    let digit = golden.as_bytes()[last] - b'0';
    golden.replace_range(last..=last, &((digit + 1) % 10).to_string());
    let mut index = std::fs::read_to_string(package.join("index.json")).unwrap();
    loop {
        let moved = texts.iter().find_map(|(name, text)| {
            let hash = Hash::of(text.as_bytes()).to_string();
            (hash != *name).then(|| (name.clone(), hash))
        });
        let Some((old, new)) = moved else { break };
        let text = texts.remove(&old).unwrap();
        texts.insert(new.clone(), text);
        texts.values_mut().for_each(|text| *text = text.replace(&old, &new));
        index = index.replace(&old, &new);
    }
    for (name, text) in texts {
        std::fs::write(blobs.join(name), text).unwrap();
    }
    std::fs::write(package.join("index.json"), index).unwrap();
}

/// Goes to a page by its letter.
fn go(browser: &mut Browser, letter: &str, path: &str) {
    if browser.evaluate("document.activeElement.matches('input, textarea, select')") == json!(true) {
        browser.key("Escape");
    }
    // It may lead to the page that stands there already, made anew.
    browser.evaluate("window.left = true");
    browser.key("g");
    browser.key(letter);
    let there =
        format!("!window.left && location.pathname === '{path}' && document.readyState === 'complete'");
    browser.wait_for(&there, SOON);
}

/// Presses Tab until the focus is there.
fn tab_to(browser: &mut Browser, selector: &str) {
    let here = format!("!!document.activeElement?.matches({})", json!(selector));
    for _ in 0..150 {
        if browser.evaluate(&here) == json!(true) {
            return;
        }
        browser.key("Tab");
    }
    let text = browser.evaluate("document.body.innerText");
    panic!("Tab does not lead to {selector}: {text}");
}

/// Presses the arrow until the list that has the focus is there.
fn choose(browser: &mut Browser, value: &str) {
    let chosen = format!("document.activeElement.value === {}", json!(value));
    for _ in 0..20 {
        if browser.evaluate(&chosen) == json!(true) {
            return;
        }
        browser.key("ArrowDown");
    }
    panic!("the list has no {value}");
}

/// Pictures of the page on a desk and on a phone, by day and by night; on the phone nothing is wider than it.
fn everywhere(browser: &mut Browser, name: &str) {
    for (width, height, phone) in [(1280, 1100, false), (360, 780, true)] {
        browser.resize(width, height, phone);
        // Somebody who wants no pictures need not wait for them.
        let wanted = std::env::var_os("SELVEDGE_SCREENSHOTS").is_some();
        for scheme in ["light", "dark"].into_iter().filter(|_| wanted) {
            browser.prefer(scheme);
            keep(browser, &format!("way-{name}-{width}-{scheme}.png"));
        }
        let wide = browser.evaluate("document.documentElement.scrollWidth > window.innerWidth");
        assert_eq!(wide, json!(false), "{name} scrolls sideways at {width}");
    }
    browser.resize(1280, 1100, false);
    browser.prefer("light");
}

fn walk(browser: &mut Browser, plant: &mut Plant) {
    browser.resize(1280, 1100, false);
    browser.open(&plant.hub.url());
    browser.wait_for("document.activeElement?.matches('#token')", SOON);
    browser.type_text(&plant.token());
    browser.key("Enter");
    browser.wait_for("document.title.startsWith('Overview') && document.readyState === 'complete'", SOON);
    everywhere(browser, "empty");

    // A code for each device; the command to type there stands on the page. And a token, for those to come.
    for name in FLEET {
        go(browser, "i", "/enrol");
        tab_to(browser, "input[name=name]");
        browser.type_text(name);
        browser.key("Enter");
        let made = format!("document.querySelector('#command')?.textContent.endsWith('--name {name}')");
        browser.wait_for(&format!("{made} && document.readyState === 'complete'"), SOON);
        let command = browser.evaluate("document.querySelector('#command').textContent");
        plant.settings(name);
        plant.enrol(name, command.as_str().unwrap());
    }
    tab_to(browser, "input[name=uses]");
    browser.key("Enter");
    browser.wait_for("document.querySelector('#h-once')?.textContent.includes('token')", SOON);
    everywhere(browser, "enrol");
    FLEET.iter().for_each(|name| plant.start(name));
    plant.publish("7");

    // All come, and say where they stand.
    go(browser, "f", "/nodes");
    browser.wait_for("document.body.innerText.includes('3 nodes')", SOON);
    browser.wait_for("document.querySelectorAll('.label').length >= 3", SOON);

    // The first node proves the release; a person lets the others have it. The page is never loaded anew.
    plant.roll_out(browser, "7", 1);
    browser.evaluate("window.same = true");
    plant.until(browser, "document.getElementById('phase')?.innerText === 'held'");
    everywhere(browser, "held");
    go(browser, "o", "/");
    browser.wait_for("document.querySelector('.wait button')", SOON);
    everywhere(browser, "overview");
    tab_to(browser, ".wait button");
    browser.key("Enter");
    browser.wait_for("location.pathname.startsWith('/rollouts/') && document.getElementById('phase')", SOON);
    browser.evaluate("window.same = true");
    plant.until(browser, "document.getElementById('phase')?.innerText === 'done'");
    assert_eq!(browser.evaluate("window.same"), json!(true), "the waves move in a page that stands");
    everywhere(browser, "done");

    // The next one gives a wrong answer: one node sees it, nobody else is offered it, and it is taken back.
    pack(&plant.stage, "8", Specimen { width: 256, feed_forward: 512, seed: 8, ..Specimen::SMALL });
    spoil(&plant.stage.path("tiny-8"));
    plant.publish("8");
    plant.roll_out(browser, "8", 0);
    plant.until(browser, "document.getElementById('phase')?.innerText === 'reverted'");
    let shown = browser.evaluate("document.querySelector('main').innerText");
    assert!(shown.as_str().unwrap().contains("golden"), "{shown}");
    everywhere(browser, "reverted");

    // Everything that was done is in the log, and the log stands.
    go(browser, "a", "/audit");
    let deadline = Instant::now() + PATIENCE;
    loop {
        tab_to(browser, "#verify");
        browser.key("Enter");
        browser.wait_for("document.readyState === 'complete' && document.querySelector('.verdict')", SOON);
        let told = browser.evaluate("document.querySelector('.verdict').innerText");
        let told = told.as_str().unwrap();
        assert!(told.contains('✓'), "{told}");
        if told.contains("The log stands") {
            break;
        }
        assert!(Instant::now() < deadline, "{told}");
        std::thread::sleep(Duration::from_secs(1));
    }
    everywhere(browser, "audit");
    for (letter, path, name) in [
        ("s", "/settings", "settings"),
        ("f", "/nodes", "fleet"),
        ("p", "/packages", "packages"),
        ("r", "/rollouts", "rollouts"),
        ("l", "/alerts", "alerts"),
    ] {
        go(browser, letter, path);
        everywhere(browser, name);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn chromium_walks_the_whole_way_by_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start(&folder.path().join("profile")) else {
        eprintln!("skipped: chromium is not installed");
        return;
    };
    let mut plant = Plant::new();
    walk(&mut browser, &mut plant);
    plant.nodes.clear();
    plant.runtime.block_on(plant.hub.stop());
}
