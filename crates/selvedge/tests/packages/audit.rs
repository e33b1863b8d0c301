//! The audit log as somebody sees it who does not believe the hub: listed, checked, kept; and refused when one byte is another.

use std::process::Command;
use std::time::Duration;

use hub::store::audit::{Entry, append};
use tokio::runtime::Runtime;

use crate::afar::House;
use crate::stage::Stage;

const ENTRIES: i64 = 300;

/// A hub whose log has some entries.
fn house() -> House {
    let stage = Stage::new();
    std::fs::create_dir_all(stage.path("hub")).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut store = hub::store::open(&stage.path("hub"), None).await.unwrap();
        for at_ms in 0..ENTRIES {
            let word = |text: &str| text.to_owned();
            let (who, act) = (word("operator:ann"), word("rollout.start"));
            let (about, why) = (format!("r{}", at_ms % 7), word("less memory"));
            let entry = Entry { at_ms, who, act, about, why, before: None, after: None };
            append(&mut store.writer, &entry).await.unwrap();
        }
        store.readers.close().await;
    });
    House::empty(stage)
}

#[test]
fn the_log_is_checked_without_belief() {
    let house = house();
    let stage = &house.stage;
    let keep = house.words(&["audit", "verify", "--key", "hub/audit.pub", "--keep", "kept"]);
    let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
    let mut said = stage.run(&keep);
    for _ in 0..200 {
        if said.code == Some(0) {
            break;
        }
        assert!(said.err.contains("has no checkpoint of a log yet"), "{}", said.err);
        assert!(said.err.contains("published about a minute after it, so ask again then"), "{}", said.err);
        std::thread::sleep(Duration::from_millis(50));
        said = stage.run(&keep);
    }
    let said = said.ok();
    assert!(
        said.contains("300 entries, each under the root") && said.contains("signed by selvedge/"),
        "{said}"
    );
    let grown = house.run(&["audit", "verify", "--key", "hub/audit.pub", "--from", "kept"]).ok();
    assert!(grown.contains("the first 300 entries are those that they were"), "{grown}");
    let listed = house.run(&["audit", "ls", "--last", "7", "--about", "r5"]).ok();
    assert!(
        listed.contains("299") && listed.contains("operator:ann") && listed.contains("nobody has checked"),
        "{listed}"
    );
    house.refused(&["audit", "verify"], 1, "--key FILE names its public key");
    std::fs::create_dir(stage.path("empty")).unwrap();
    stage.refused(&["audit", "ls", "--dir", "empty"], "it is not what `selvedge audit export` made");
    let other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    house.refused(&["audit", "verify", "--key", other], 1, "is not believed");

    house.run(&["audit", "export", "--key", "hub/audit.pub", "-o", "evidence"]).ok();
    house.refused(&["audit", "export", "--key", "hub/audit.pub", "-o", "evidence"], 1, "is there already");
    let check = ["audit", "verify", "--dir", "evidence", "--key", "hub/audit.pub"];
    assert!(stage.run(&check).ok().contains("300 entries"));
    assert!(stage.run(&check[..4]).ok().contains("the key is the folder's own"));
    let lines = std::fs::read_to_string(stage.path("evidence/entries.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 300);
    let python = || {
        let key = std::fs::read_to_string(stage.path("hub/audit.pub")).unwrap();
        let run = Command::new("python3").arg(stage.path("evidence/verify.py")).arg(key.trim()).output();
        run.ok().map(|ran| {
            (ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
        })
    };
    match python() {
        Some((holds, said)) => assert!(holds && said.contains("every entry is under the root"), "{said}"),
        None => println!("skipped: there is no python3 to run verify.py"),
    }
    for file in ["tile/entries/001.p/44", "tile/0/000", "checkpoint"] {
        let path = stage.path("evidence").join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut wrong = whole.clone();
        wrong[40] ^= 1;
        std::fs::write(&path, wrong).unwrap();
        assert_eq!(stage.run(&check).code, Some(1), "{file}");
        if let Some((holds, said)) = python() {
            assert!(!holds, "{file}: {said}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert!(stage.run(&check).ok().contains("300 entries"));

    // What proves one thing has the hashes of all, and only the entries that it needs: here none.
    let words = ["audit", "export", "--key", "hub/audit.pub", "--from", "1970-01-02", "-o"];
    assert!(house.run(&[&words[..], &["none.tar"]].concat()).ok().contains("none.tar: 0 entries"));
    house.run(&[&words[..], &["none"]].concat()).ok();
    assert!(!stage.path("none/tile/entries").exists());
    for place in ["none", "none.tar"] {
        let check = ["audit", "verify", "--dir", place, "--records", "--key", "hub/audit.pub"];
        let said = stage.run(&check).ok();
        assert!(said.contains("300 entries") && said.contains("0 records in 0 chains"), "{said}");
    }
    let swapped = std::fs::read(stage.path("none/tile/0/001.p/44")).unwrap();
    std::fs::write(stage.path("none/tile/0/001.p/44"), [&swapped[32..], &swapped[..32]].concat()).unwrap();
    stage.refused(&["audit", "verify", "--dir", "none"], "are not those whose root is signed");
    stage.refused(&["audit", "verify", "--dir", "token", "--key", "hub/audit.pub"], "no archive of evidence");
}
