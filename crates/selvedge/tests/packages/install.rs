//! The whole way: packed, approved, pushed, assigned; a node brings it, proves it, tries it, keeps it or goes back; the hub hears.

use std::time::Duration;

use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::plant::{PATIENCE_NS, Plant, current};

#[test]
fn from_files_to_a_node_and_back() {
    let plant = Plant::new();
    plant.release("7", "tiny");
    let mut node = plant.node("pump-1");
    let slots = plant.until("pump-1", &mut node, |slots| current(slots) == Some(7));
    assert_eq!(slots["kept"]["current"]["variant"], "f32", "the better one, since it fits: {slots:#}");
    let first = node.ask(&plant.runtime).unwrap();

    // The hub says with a check-in that there is something new.
    plant.pack_next("8", None);
    plant.release("8", "tiny-8");
    let slots = plant.until("pump-1", &mut node, |slots| current(slots) == Some(8));
    assert_eq!(slots["kept"]["previous"]["release"], 7);
    let second = node.ask(&plant.runtime).unwrap();
    assert_ne!(first["choices"][0]["text"], second["choices"][0]["text"], "another model answers");

    // A release that does not keep its own budget goes back before anybody asks it.
    plant.stage.run(&["export", "tiny-8", "--files", "plain"]).ok();
    let golden = std::fs::read_to_string(plant.stage.path("plain/f32/golden.json")).unwrap();
    let strict = golden.replace(r#""budget":{}"#, r#""budget":{"load_ms":0.000001}"#);
    assert_ne!(golden, strict);
    plant.stage.write("strict.json", &strict);
    plant.pack_next("9", Some("strict.json"));
    plant.release("9", "tiny-9");
    let slots = plant.until("pump-1", &mut node, |slots| {
        slots["kept"]["refused"].as_array().is_some_and(|refused| !refused.is_empty())
    });
    assert_eq!((current(&slots), &slots["kept"]["candidate"]), (Some(8), &Value::Null));
    let why = slots["kept"]["refused"][0]["why"].as_str().unwrap();
    assert!(why.contains("ms"), "{why}");

    // A person takes the one before back.
    let config = ["--config", "pump-1.toml"];
    let back = plant.stage.run(&[&["rollback", "tiny"][..], &config].concat()).ok();
    assert_eq!(back, "tiny 7 serves again\n");
    let slots =
        plant.until("pump-1", &mut node, |slots| slots["is_loaded"] == true && current(slots) == Some(7));
    assert_eq!(slots["kept"]["refused"].as_array().unwrap().len(), 2);
    let clock = System::new();
    let third = loop {
        if let Some(answer) = node.ask(&plant.runtime) {
            break answer;
        }
        assert!(clock.mono_ns() < PATIENCE_NS, "{}", plant.log("pump-1"));
    };
    assert_eq!(first["choices"][0]["text"], third["choices"][0]["text"], "the first model answers again");
    let shown = plant.stage.run(&[&["slots"][..], &config].concat()).ok();
    assert!(shown.contains("current") && shown.contains("serves, here since"), "{shown}");
    plant.stage.refused(&[&["rollback", "tiny"][..], &config].concat(), "no previous release to go back to");

    let expected = ["tiny 7 committed", "tiny 8 committed", "tiny 8 rolled_back", "tiny 9 refused"];
    let clock = System::new();
    while plant.outcomes("pump-1") != expected {
        assert!(clock.mono_ns() < PATIENCE_NS, "{:?}", plant.outcomes("pump-1"));
        std::thread::sleep(Duration::from_millis(100));
    }

    // A stop that was asked for is nobody's fault, and the next life goes on with the same model.
    node.stop();
    plant.stage.refused(&[&["slots"][..], &config].concat(), "no node with packages runs on");
    let mut node = plant.start("pump-1");
    let slots = plant.until("pump-1", &mut node, |slots| slots["is_loaded"] == true);
    assert_eq!(current(&slots), Some(7));
    node.stop();
}

#[test]
fn a_release_that_answers_otherwise_is_refused_beside_the_current_one() {
    let plant = Plant::new();
    plant.release("7", "tiny");
    let mut node = plant.node_with("pump-1", "shadow = 1.0\nshadow_answers = 3\n");
    plant.until("pump-1", &mut node, |slots| current(slots) == Some(7));
    // Another model.
    plant.pack_next("8", None);
    plant.release("8", "tiny-8");
    let slots = plant.until("pump-1", &mut node, |slots| !slots["kept"]["refused"][0].is_null());
    assert_eq!((current(&slots), &slots["is_loaded"]), (Some(7), &Value::Bool(true)), "{slots:#}");
    let why = slots["kept"]["refused"][0]["why"].as_str().unwrap();
    assert_eq!(why, "0 of 3 answers were those of the current model");
    // The same model.
    plant.stage.pack("9", "tiny-9").ok();
    plant.release("9", "tiny-9");
    let slots = plant.until("pump-1", &mut node, |slots| current(slots) == Some(9));
    let told = slots["told"].as_str().unwrap();
    assert_eq!(told, "release 9: 3 of 3 answers were those of the current model");
    node.stop();
    // What was asked stands in no log.
    assert!(!plant.log("pump-1").contains("the heat"));
}

#[test]
fn from_a_stick_without_a_hub() {
    let mut plant = Plant::new();
    plant.stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
    plant.stage.run(&["export", "tiny", "--usb", "stick.tar", "--with-trust", "repo"]).ok();
    let hub = plant.hub.take().unwrap();
    plant.runtime.block_on(hub.stop());
    let mut node = plant.node("pump-2");
    let config = ["--config", "pump-2.toml"];
    plant.stage.refused(
        &[&["install", "tiny"][..], &config].concat(),
        "the trusted targets list no release of tiny",
    );
    let ordered = plant.stage.run(&[&["install", "stick.tar"][..], &config].concat()).ok();
    assert!(ordered.contains("tiny 7 is ordered\n"), "{ordered}");
    plant.until("pump-2", &mut node, |slots| current(slots) == Some(7));
    // What a stick brings is believed no more than what a hub does.
    plant.pack_next("8", None);
    plant.stage.run(&["export", "tiny-8", "--usb", "unsigned.tar"]).ok();
    plant.stage.refused(&[&["install", "unsigned.tar"][..], &config].concat(), "list no tiny 8");
    let waited = plant.stage.run(&[&["install", "tiny:7", "--wait"][..], &config].concat()).ok();
    assert!(waited.ends_with("tiny 7 serves\n"), "{waited}");
    node.stop();
}

#[test]
fn sealed_weights_run_on_the_node_that_was_let_in() {
    let plant = Plant::new();
    let stage = &plant.stage;
    stage.run(&["trust", "key", "node", "pump-3"]).ok();
    stage.run(&["trust", "key", "node", "elsewhere"]).ok();
    stage.run(&["trust", "key", "new", "seal.age", "--kind", "content", "--work", "4"]).ok();
    let words = ["pack", "full.gguf", "--model", "tiny", "--release", "7", "-o", "sealed"];
    let golden = ["--golden-from", "prompts.txt", "--seal-key", "seal.age"];
    stage.run(&[&words[..], &golden, &["--seal-to", "elsewhere/keys/node.pub.json"]].concat()).ok();
    plant.release_to("pump-3", "7", "sealed");
    let mut node = plant.node("pump-3");
    let waits = plant.until("pump-3", &mut node, |slots| {
        slots["told"].as_str().is_some_and(|told| told.contains("selvedge grant"))
    });
    assert_eq!(waits["kept"]["candidate"]["phase"], "staged", "{waits:#}");
    // Whoever packed it lets the node in; a new life looks at once.
    let hub = ["--hub", plant.url.as_str()];
    let grant = ["grant", "sealed", "--to", "pump-3/keys/node.pub.json", "--key", "seal.age", "-o", "hub:"];
    stage.run(&[&grant[..], &hub].concat()).ok();
    node.stop();
    let mut node = plant.start("pump-3");
    plant.until("pump-3", &mut node, |slots| current(slots) == Some(7));
    assert!(node.ask(&plant.runtime).is_some());
    let blobs = std::fs::read_dir(stage.path("pump-3/packages/blobs/sha256")).unwrap();
    let is_plain = |path: &std::path::Path| std::fs::read(path).unwrap().starts_with(b"GGUF");
    assert!(blobs.map(|blob| blob.unwrap().path()).all(|path| !is_plain(&path)), "nothing plain on the disk");
    node.stop();
}
