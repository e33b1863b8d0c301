//! The help of each verb: there, in sentences, no wider than a terminal.

use crate::stage::Stage;

#[test]
fn every_verb_says_what_it_is_for() {
    let stage = Stage::new();
    let check = |words: &[&str], expected: &str| {
        let text = stage.run(&[words, &["--help"]].concat()).ok();
        assert!(text.contains(expected), "{words:?}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{words:?}: {text}");
        // What tests alone need is not shown.
        assert!(!text.contains("--work"), "{words:?}: {text}");
    };
    check(&["pack"], "--golden-from <PROMPTS>");
    check(&["inspect"], "--json");
    check(&["pull"], "--variant <NAME>");
    check(&["push"], "--hub <URL>");
    check(&["sign"], "--provenance <KEY.age>");
    check(&["verify"], "exits with 0 only if all holds");
    check(&["export"], "--with-trust <REPOSITORY>");
    check(&["mcp"], "--may-act <ACTUATORS>");
    check(&["audit"], "Show, check and keep the log");
    check(&["audit", "ls"], "--about <WORD>");
    check(&["audit", "verify"], "--from <CHECKPOINT>");
    check(&["audit", "export"], "without selvedge");
    check(&["login"], "asks for the token");
    check(&["fleet", "ls"], "--sort <WORD>");
    check(&["fleet", "enrol"], "which hub is the true one");
    check(&["fleet", "groups"], "groups set pumps");
    check(&["release", "coverage"], "[WHERE]");
    check(&["rollout", "renew"], "documents end soon");
    check(&["grant"], "nobody else can use it");
    check(&["fit"], "--explain <PACKAGE>");
    check(&["trust"], "assignments");
    check(&["trust", "init"], "--root-threshold <COUNT>");
    check(&["trust", "key"], "new");
    check(&["trust", "key", "new"], "ecdsa-p256");
    check(&["trust", "key", "new"], "--token <URI>");
    check(&["trust", "key", "node"], "never replaced");
    check(&["trust", "key", "show"], "passphrase");
    for (verb, expected) in [
        ("add", "--role <ROLE>"),
        ("withdraw", "NAME:NUMBER"),
        ("sign", "Look at what it says before you sign"),
        ("refresh", "--renew <ROLE>"),
        ("rotate", "--remove <ID|PUB.json>"),
        ("delegate", "--terminating"),
        ("assign", "--ring <FROM..TO>"),
        ("show", "what is approved"),
        ("reset", "--yes"),
    ] {
        check(&["trust", verb], expected);
    }
}
