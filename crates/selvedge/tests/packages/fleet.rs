//! The verbs that ask a hub, as somebody meets them who has signed in: nodes, groups, labels, releases, and a rollout renewed.

use serde_json::{Value, json};

use crate::plant::Plant;
use crate::stage::Ran;

impl Plant {
    /// A verb, by the login alone.
    fn say(&self, words: &[&str]) -> Ran {
        let mut command = self.stage.command(words);
        command.env("XDG_CONFIG_HOME", self.stage.path("config")).env_remove("SELVEDGE_HUB");
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What it prints, which fits a terminal.
    #[track_caller]
    fn told(&self, words: &[&str]) -> String {
        let out = self.say(words).ok();
        // A command is never cut.
        let long = out.lines().find(|line| line.chars().count() > 100 && !line.starts_with("  selvedge "));
        assert_eq!(long, None, "{words:?}");
        out
    }

    fn check_in(&self, node: &str, seed: u8, facts: &Value) {
        let said = json!({
            "v": 1, "node": node, "journal": format!("{seed:032x}"), "boot": format!("{:032x}", seed + 100),
            "version": "0.1.0", "uptime_ms": 5000, "wall_ms": 1, "clock": "unchecked",
            "inventory": {"seq": 1, "base": 0, "set": facts},
        });
        let url = format!("{}/api/v1/checkin", self.url);
        let answer = self.runtime.block_on(async {
            let request = reqwest::Client::new().post(url).header("content-type", "application/json");
            request.body(said.to_string()).send().await.unwrap()
        });
        assert_eq!(answer.status(), 200);
    }
}

#[test]
fn somebody_signs_in_and_looks_after_a_fleet() {
    let plant = Plant::new();
    let signed = plant.told(&["login", "--hub", &plant.url, "--open"]);
    assert!(signed.starts_with("everybody is admin at http://127.0.0.1"), "{signed}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(plant.stage.path("config/selvedge/hub.toml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert!(plant.told(&["fleet", "ls"]).contains("no nodes yet"));

    let facts = json!({"ram": 4_000_000_000_u64, "disk": 9_000_000_000_u64, "arch": "x86_64", "isa": ["avx2"],
        "version": "0.1.0", "site": "oslo", "label.site": "oslo"});
    plant.check_in("pump-1", 1, &facts);
    plant.check_in("pump-2", 2, &json!({"ram": 1000, "site": "bergen"}));
    let listed = plant.told(&["fleet", "ls", "site == \"oslo\""]);
    assert!(listed.contains("pump-1  good") && !listed.contains("pump-2"), "{listed}");
    let all = plant.say(&["fleet", "ls", "--json"]).json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert!(plant.say(&["fleet", "ls", "site =="]).err.contains("the hub says: "));
    let shown = plant.told(&["fleet", "show", "pump-1"]);
    assert!(shown.starts_with("pump-1: up, good") && shown.contains("4000000000 (4.00 GB)"), "{shown}");
    assert!(plant.say(&["fleet", "show", "none"]).err.contains("has ever checked in"));

    plant.told(&["fleet", "label", "pump-1", "line=2", "hall=north"]);
    let labels = plant.told(&["fleet", "label", "pump-1", "hall="]);
    assert!(labels.starts_with("line=2\npump-1 hears of it"), "{labels}");
    assert_eq!(plant.told(&["fleet", "label", "pump-1"]), "line=2\n");
    assert!(
        plant
            .told(&["fleet", "groups", "set", "pumps", "name ~ \"pump-*\""])
            .contains("group.pumps has 2 nodes")
    );
    assert!(plant.told(&["fleet", "groups"]).contains("pumps      2  everybody"));
    assert!(plant.told(&["fleet", "ls", "group.pumps"]).contains("pump-2"));
    plant.told(&["fleet", "groups", "rm", "pumps"]);
    assert!(plant.say(&["fleet", "groups", "rm", "pumps"]).err.contains("no such group"));
    assert!(plant.say(&["fleet", "enrol", "--name", "pump-7"]).err.contains("no door for nodes"));
    assert_eq!(plant.say(&["fleet", "deny", "pump-1", "--why", "stolen"]).code, Some(2), "it has no key");

    assert!(plant.told(&["release", "ls"]).starts_with("no targets are published"));
    plant.approve("tiny");
    let releases = plant.told(&["release", "ls"]);
    assert!(releases.contains("tiny:7") && releases.contains("targets"), "{releases}");
    let card = plant.told(&["release", "show", "tiny:7"]);
    assert!(card.contains("Apache-2.0") && card.contains("perplexity"), "{card}");
    let card = plant.say(&["release", "show", "tiny:7", "--json"]).json();
    assert!(card["variants"][0]["golden"]["cases"].as_u64() > Some(0), "{card:#}");
    assert_eq!(card["variants"][0]["bom"]["licences"], json!(["Apache-2.0"]));
    let coverage = plant.told(&["release", "coverage", "tiny:7"]);
    assert!(
        coverage.contains("none") && coverage.contains("50.0 %") && coverage.contains("selvedge fleet ls"),
        "{coverage}"
    );
    assert!(plant.say(&["release", "show", "tiny:8"]).err.contains("no published targets approve"));

    plant.say(&["rollout", "new", "tiny:7", "--where", "site == \"oslo\"", "--no-revert"]).ok();
    plant.say(&["rollout", "create", "plan.json"]).ok();
    let rollouts = plant.say(&["rollout", "ls", "--json"]).json();
    let id = rollouts[0]["id"].as_str().unwrap().to_owned();
    let why = plant.told(&["fleet", "why", "pump-2", &id[..8]]);
    assert!(why.contains("has it: no") && why.contains("it says bergen"), "{why}");
    let key = ["--key", "keys/assigner.age", "--yes"];
    plant.say(&[&["rollout", "sign", &id][..], &key].concat()).ok();
    assert!(plant.say(&[&["rollout", "renew", &id][..], &key].concat()).err.contains("nothing ends soon"));
    let renewed =
        plant.say(&[&["rollout", "renew", &id, "--now", "--why", "it ends in May"][..], &key].concat()).ok();
    assert!(renewed.contains(&format!("in the place of {id}")) && renewed.contains("is ready"), "{renewed}");
    assert_eq!(plant.say(&["rollout", "ls", "--json"]).json().as_array().unwrap().len(), 2);
}
