//! A wrong config file gives every problem with its place, its reason and a mend; a right one gives what it says.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::fs;
use std::path::Path;

use node::board::Kind;
use node::config::Config;
use node::config::part::Origin;
use node::flow::{Field, Flow, PartAt, SourceKind, Speed};
use node::install::cap::Cap;
use wire::class::Class;

fn flow(text: &str) -> Result<Flow, String> {
    Flow::parse(Path::new("flow.toml"), text.into()).map_err(|errors| errors.to_string())
}

const SOUND: &str = r#"
[source.pump]
type = "replay"
file = "pump.csv"
speed = "max"
channels = ["pressure", "temperature"]

[model.pump_health]
type = "subspace"
inputs = ["source.pump"]
lag = 5

[rule.overheat]
inputs = ["source.pump"]
when = "pump.temperature > 80.0"
for = "30s"
clear_after = "5m"
severity = "critical"

[rule.odd]
inputs = ["model.pump_health", "source.pump"]
when = "pump_health.p > 0.99"
"#;

#[test]
fn a_sound_flow() {
    let flow = flow(SOUND).unwrap();
    let SourceKind::Replay(replay) = &flow.sources[0].kind else { panic!("{:?}", flow.sources[0].kind) };
    assert_eq!(
        (replay.file.as_path(), replay.speed, replay.repeat),
        (Path::new("pump.csv"), Speed::Max, false)
    );
    assert_eq!((flow.models[0].lag, flow.models[0].source), (5, 0));
    let overheat = &flow.rules[0];
    let field = |part, name: &str| Field { part, name: name.to_owned(), kind: Kind::Number };
    let fields = [field(PartAt::Source(0), "temperature"), field(PartAt::Model(0), "p")];
    assert_eq!(flow.fields, fields);
    assert_eq!((overheat.for_ms, overheat.clear_after_ms), (30_000, 300_000));
    assert_eq!(flow.rules[1].when.text(), "pump_health.p > 0.99");
    assert_eq!(flow.rules[1].reads.get(&0), Some(&5), "the last five readings, for the model's lag");
    let effective = |key: &str| {
        let found = flow.effective.iter().find(|value| value.key == key).unwrap();
        (found.value.as_str(), found.origin)
    };
    assert_eq!(effective("source.pump.speed"), ("\"max\"", Origin::File));
    assert_eq!(effective("source.pump.summary"), ("\"1s\"", Origin::Default));
    assert_eq!(effective("rule.odd.severity"), ("\"warning\"", Origin::Default));
}

/// Each change of the sound flow gives exactly these lines.
#[test]
fn each_problem_has_its_place_and_its_mend() {
    fn check(from: &str, to: &str, expected: &[&str]) {
        assert!(SOUND.contains(from), "{from}");
        let found = flow(&SOUND.replacen(from, to, 1)).unwrap_err();
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{from} -> {to}");
    }
    check(
        "pump.temperature",
        "pump.temprature",
        &["flow.toml:15:14: `source.pump` has no channel `temprature` (did you mean `temperature`?)"],
    );
    check(
        "lag = 5",
        "lags = 5",
        &["flow.toml:11:1: `model.pump_health` has no setting `lags` (did you mean `lag`?)"],
    );
    check(
        "lag = 5",
        "lag = \"5\"",
        &["flow.toml:11:7: `lag` of `model.pump_health`: invalid type: string \"5\", expected usize"],
    );
    check(
        "lag = 5",
        "lag = 500",
        &[
            "flow.toml:8:8: `learn` must be at least twice the lag, and at least 40 (write `learn = 1000`)",
            "flow.toml:11:7: `model.pump_health`: lag 500 × 2 channels exceeds 320 numbers (watch fewer channels (`channels` of the source), or lower `lag`)",
        ],
    );
    check(
        "\"source.pump\"]\nlag",
        "\"source.pmp\"]\nlag",
        &["flow.toml:10:11: there is no `source.pmp` to take as input (did you mean `source.pump`?)"],
    );
    check(
        "\"source.pump\"]\nlag",
        "\"pump\"]\nlag",
        &["flow.toml:10:11: there is no `pump` to take as input (write \"source.pump\")"],
    );
    check(
        "\"source.pump\"]\nlag",
        "\"model.pump_health\"]\nlag",
        &[
            "flow.toml:8:8: `model.pump_health` feeds itself: pump_health ← pump_health (a detector watches a source)",
            "flow.toml:10:11: `model.pump_health` cannot watch `model.pump_health` (a detector watches a source)",
        ],
    );
    check(
        "\"30s\"",
        "\"30\"",
        &[
            "flow.toml:16:7: `for` of `rule.overheat`: \"30\" is not a duration such as \"30s\", \"5m\" or \"1.5h\" (units ms, s, m, h, d)",
        ],
    );
    check(
        "\"critical\"",
        "\"fatal\"",
        &[
            "flow.toml:18:12: `severity` of `rule.overheat`: there is no \"fatal\" (known: `info`, `warning`, `critical`)",
        ],
    );
    check(
        "pump_health.p >",
        "pump_health.q >",
        &[
            "flow.toml:22:21: `model.pump_health` gives no `q` (a model gives `pump_health.p` and `pump_health.score`)",
        ],
    );
    check(
        "pump_health.p >",
        "motor.p >",
        &[
            "flow.toml:22:9: the condition speaks of `motor`, which is not among the inputs (known: `pump_health`, `pump`)",
        ],
    );
    check(
        "pump_health.p > 0.99",
        "pump_health.p > 0.99 && pump.presure > 1",
        &["flow.toml:22:38: `source.pump` has no channel `presure` (did you mean `pressure`?)"],
    );
    check(
        "pump_health.p > 0.99",
        "pump_health.p > 0.99 & pump.pressure > 1",
        &["flow.toml:22:30: `when` of `rule.odd`: `&` cannot stand here (write `&&`)"],
    );
    check(
        "pump_health.p > 0.99",
        "overheat.firing && pump_health.p > 0.99",
        &[
            "flow.toml:22:9: the condition speaks of `overheat`, which is not among the inputs (add \"rule.overheat\" to `inputs`)",
        ],
    );
    check(
        "severity = \"critical\"",
        "inhibit_by = [\"rule.od\"]",
        &["flow.toml:18:14: there is no `rule.od` to be held back by (did you mean `rule.odd`?)"],
    );
    check(
        "severity = \"critical\"",
        "floor = \"pump.pressure > 9\"",
        &[
            "flow.toml:18:9: the floor answers in a model's place, and `when` speaks of none (take `floor` out, or write it into `when`)",
        ],
    );
    check(
        "pump_health.p > 0.99\"",
        "pump_health.p > 0.99\"\nfloor = \"pump.pressure > 9\"\nfloor_below = 0.6",
        &[
            "flow.toml:24:15: `model.pump_health` gives no `confidence` (take `floor_below` out: the floor answers while the model's values are missing)",
        ],
    );
    check(
        "inputs = [\"source.pump\"]\nwhen",
        "inputs = [\"source.pump\", \"rule.odd\"]\ninhibit_by = [\"rule.overheat\"]\nwhen",
        &[
            "flow.toml:13:7: `rule.overheat` waits for itself: overheat ← overheat (take one of them out of `inputs` or `inhibit_by`)",
        ],
    );
    check(
        "[rule.odd]",
        "[rule.Odd-one]",
        &[
            "flow.toml:20:7: the name \"Odd-one\" cannot be used: a name begins with a letter and has at most 64 of a-z, 0-9 and _ (write `odd_one`)",
        ],
    );
    check("[rule.odd]", "[rules.odd]", &["flow.toml:20:2: a flow has no `[rules]` (did you mean `rule`?)"]);
    check(
        "\"replay\"",
        "\"reply\"",
        &["flow.toml:3:8: there is no source of type \"reply\" (did you mean `replay`?)"],
    );
    check(
        "\"max\"",
        "0",
        &["flow.toml:5:9: `speed` must be a number above 0, or \"max\" (write `speed = 1.0`)"],
    );
    check(
        "file = \"pump.csv\"\n",
        "",
        &["flow.toml:2:9: `source.pump` has no `file` (add `file = \"readings.csv\"`)"],
    );
    check(
        "[model.pump_health]",
        "[model.pump]",
        &[
            "flow.toml:8:8: there is a source `pump` already: `pump.x` in a condition would be either (name the model `pump_health`)",
            "flow.toml:21:11: there is no `model.pump_health` to take as input (known: `model.pump`, `rule.odd`, `rule.overheat`, `source.pump`)",
        ],
    );
    check(
        "\"temperature\"]",
        "\"pressure\"]",
        &[
            "flow.toml:6:12: the channel `pressure` is listed twice (give each channel once, by its name in the data)",
        ],
    );
}

#[test]
fn several_problems_are_found_at_once() {
    let found = flow("[source.a]\ntype = \"http\"\nspeed = 1\n[rule.b]\ninputs = []\nfor = 5\n").unwrap_err();
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 4, "{found}");
    for (line, expected) in lines.iter().zip(["3:1", "4:7", "5:10", "6:7"]) {
        assert!(line.starts_with(&format!("flow.toml:{expected}:")), "{found}");
    }
    let syntax = flow("[source.a\ntype = ").unwrap_err();
    assert!(syntax.starts_with("flow.toml:1:10: "), "{syntax}");
    assert!(flow("").unwrap_err().contains("no source"));
}

/// Sets up a node's folder and reads it.
fn node(node_toml: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("node.toml"), node_toml).unwrap();
    fs::write(dir.path().join("flow.toml"), SOUND).unwrap();
    let folder = format!("{}/", dir.path().display());
    Config::load(&dir.path().join("node.toml")).map_err(|errors| errors.to_string().replace(&folder, ""))
}

#[test]
fn neighbours() {
    let of = |lines: &str| node(&format!("[node]\nname = \"pump-7\"\n[api]\n[neighbours]\n{lines}"));
    let default = of("").unwrap().neighbours.unwrap();
    assert_eq!((default.serve, default.peers.len(), default.bytes_per_s), (false, 0, 16 << 20));
    let found =
        of("serve = true\ntoken_file = \"n\"\npeers = [\"http://gateway-2:8421/\"]\nrate = \"1MB\"\n");
    let found = found.unwrap().neighbours.unwrap();
    assert_eq!((found.serve, found.bytes_per_s), (true, 1_000_000));
    assert_eq!(found.peers, ["http://gateway-2:8421"]);
    assert!(found.token_file.unwrap().ends_with("n"));
    for (lines, expected) in [
        ("serve = true", "packages would go to whoever asks"),
        ("peers = [\"gateway-2\"]", "is no neighbour's address"),
        ("peers = [\"http://key@gateway-2\"]", "is no neighbour's address"),
        ("rate = \"0\"", "below 1 KiB"),
        ("serf = true", "did you mean `serve`?"),
    ] {
        let error = of(lines).unwrap_err();
        assert!(error.contains(expected), "{lines}: {error}");
    }
    let error = node("[node]\nname = \"a\"\n[neighbours]\nserve = true\ntoken_file = \"n\"\n").unwrap_err();
    assert!(error.contains("there is no `[api]`"), "{error}");
}

#[test]
fn relays() {
    let of = |hub: &str, lines: &str| node(&format!("[node]\nname = \"pump-7\"\n[hub]\n{hub}\n{lines}"));
    let sealed = "url = \"https://hub:8421\"";
    let relay = |lines: &str| of(sealed, &format!("[relay]\n{lines}"));
    let found = relay("token_file = \"t\"").unwrap().relay.unwrap();
    assert_eq!((found.listen.port(), found.connections, found.per_address), (7444, 256, 32));
    assert_eq!((found.bytes_per_s, found.idle.as_secs(), found.cache_bytes), (None, 900, 4 << 30));
    let found = relay("token_file = \"t\"\nrate = \"64KiB/s\"\ncache = \"0\"").unwrap().relay.unwrap();
    assert_eq!((found.bytes_per_s, found.cache_bytes), (Some(64 << 10), 0));
    assert!(found.token_file.ends_with("t"));
    for (lines, expected) in [
        ("", "`relay` has no `token_file`"),
        ("token_file = \"t\"\nlisten = \"relay:7444\"", "is no address and port"),
        ("token_file = \"t\"\nconnections = 0", "`connections` is from 1"),
        ("token_file = \"t\"\nidle = \"5s\"", "less than a minute"),
        ("token_file = \"t\"\nrate = \"1B\"", "no check-in gets through"),
        ("tokenfile = \"t\"", "did you mean `token_file`?"),
    ] {
        let error = relay(lines).unwrap_err();
        assert!(error.contains(expected), "{lines}: {error}");
    }
    let error = of("url = \"http://hub:8420\"", "[relay]\ntoken_file = \"t\"").unwrap_err();
    assert!(error.contains("door for nodes"), "{error}");

    let via = |lines: &str| of(&format!("{sealed}\n{lines}"), "").map(|config| config.hub.unwrap().via);
    assert_eq!(via("").unwrap(), None);
    let found = via("via = \"http://relay:7444/\"").unwrap().unwrap();
    assert_eq!(
        (found.relays, found.token_file, found.direct),
        (vec!["http://relay:7444/".to_owned()], None, false)
    );
    let several = "via = [\"http://a:1\", \"http://[::1]:2\"]\nrelay_token_file = \"t\"\ndirect = true";
    let found = via(several).unwrap().unwrap();
    assert!(found.direct && found.relays.len() == 2 && found.token_file.unwrap().ends_with("t"));
    for (lines, expected) in [
        ("via = \"relay:7444\"", "is no relay's address"),
        ("via = \"https://relay:7444\"", "is no relay's address"),
        ("via = \"http://me@relay\"", "is no relay's address"),
        ("via = \"http://relay/x\"", "is no relay's address"),
        ("via = []", "names 0 relays"),
        ("direct = true", "there is no relay to go through"),
        ("viaa = \"http://relay\"", "did you mean `via`?"),
    ] {
        let error = via(lines).unwrap_err();
        assert!(error.contains(expected), "{lines}: {error}");
    }
    let error = of("url = \"http://hub:8420\"\nvia = \"http://relay:7444\"", "").unwrap_err();
    assert!(error.contains("must be sealed"), "{error}");
}

#[test]
fn packages() {
    let of = |lines: &str| {
        let more = "[node]\nname = \"pump-7\"\n[hub]\nurl = \"http://hub:8420\"\n[serve]\n";
        node(&format!("{more}[trust]\nroot = \"root.json\"\n[packages]\n{lines}"))
    };
    let found = |lines: &str| {
        let packages = of(lines).unwrap().packages.unwrap();
        let (rules, extent) = (packages.rules, packages.shadow);
        (rules.shadow, rules.agreement, extent.answers, extent.at_most.as_secs())
    };
    assert_eq!(found(""), (0.0, 0.95, 20, 3_600));
    let spare = |lines: &str| of(lines).unwrap().packages.unwrap().rules.spare;
    assert!(!spare("") && spare("spare = true"));
    // A node that brings networks and flows has no language model to serve.
    let without = "[node]\nname = \"pump-7\"\n[hub]\nurl = \"http://hub:8420\"\n[trust]\nroot = \"root.json\"\n[packages]\n";
    let config = node(&format!("{without}flow = \"line\"\n")).unwrap();
    assert!(config.serve.is_none() && config.packages.unwrap().flow.is_some());
    let error = node(&format!("{without}spare = true\n")).unwrap_err();
    assert!(error.contains("no `[serve]` in which they answer"), "{error}");
    let lines = "shadow = 1\nagreement = 0.5\nshadow_answers = 3\nshadow_at_most = \"1m\"\n";
    assert_eq!(found(lines), (1.0, 0.5, 3, 60));
    let cap = |lines: &str| of(lines).unwrap().packages.unwrap().rules.beside;
    assert_eq!((cap(""), cap("beside = false")), (Some(Cap::default()), None));
    let lines = "[packages.beside]\nshare = 0.1\ncore = 0.05\njoules = 60\nmemory = \"2GiB\"\n";
    let some = Cap { share_ppm: 100_000, core_ppm: 50_000, joules: Some(60), memory_bytes: Some(2 << 30) };
    assert_eq!(cap(lines), Some(some));
    assert_eq!(cap("beside = { core = 0.01 }"), Some(Cap { core_ppm: 10_000, ..Cap::default() }));
    for (lines, expected) in [
        ("beside = true", "`packages.beside` must be a table"),
        ("beside = { share = 0.0 }", "`share` is a share above 0"),
        ("beside = { core = 1.5 }", "`core` is a share above 0"),
        ("beside = { joules = 0 }", "nothing could ever answer"),
        ("beside = { memory = \"0\" }", "nothing could ever answer"),
        ("beside = { cores = 1 }", "no setting `cores`"),
        ("shadow = 1.5", "`shadow` is a share"),
        ("shadow = nan", "`shadow` is a share"),
        ("agreement = -0.1", "`agreement` is a share"),
        ("shadow_answers = 0", "compares nothing"),
        ("shadow_at_most = \"0\"", "less than a second"),
    ] {
        let error = of(lines).unwrap_err();
        assert!(error.contains(expected), "{lines}: {error}");
    }
}

#[test]
fn a_node() {
    let config = node(
        "[node]\nname = \"pump-7\"\n[hub]\nurl = \"http://hub:8420/\"\n[api]\n[journal]\nmax_bytes = \"2MiB\"\n\
         [policy]\nleaves = [\"metric\", \"audit\"]\n",
    )
    .unwrap();
    assert_eq!(config.name.as_str(), "pump-7");
    assert!(config.data.ends_with("data") && config.data.is_absolute());
    assert_eq!(config.hub.as_ref().unwrap().url, "http://hub:8420");
    assert_eq!(config.api.as_ref().unwrap().listen.to_string(), "127.0.0.1:8421");
    assert_eq!((config.journal.max_bytes, config.journal.min_free_bytes), (2 << 20, 64 << 20));
    assert_eq!(config.policy.usual.leaves, [Class::Audit, Class::Metric]);
    let shown: Vec<String> = config
        .effective()
        .map(|value| format!("{} = {} ({})", value.key, value.value, value.origin.as_str()))
        .collect();
    for expected in [
        "node.name = \"pump-7\" (file)",
        "node.data = \"data\" (default)",
        "journal.min_free_bytes = \"64MiB\" (default)",
        "rule.overheat.for = \"30s\" (file)",
    ] {
        assert!(shown.iter().any(|line| line == expected), "{expected} in {shown:#?}");
    }
}

#[test]
fn what_a_node_refuses() {
    fn check(text: &str, expected: &str) {
        let found = node(text).unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
    check("[node]\nname = \"Pump 7\"", "node.toml:2:8: `name` of `node`: a node's name may have a-z");
    check("", "there is no `[node]`");
    check("[node]\n", "node.toml:1:2: `node` has no `name`");
    check(
        "[node]\nname = \"a\"\n[api]\nlisten = \"0.0.0.0:80\"",
        "node.toml:4:10: 0.0.0.0:80 can be reached",
    );
    check("[node]\nname = \"a\"\n[api]\nlisten = \"0.0.0.0:80\"\nallow_remote = true", "and a `token_file`");
    check("[node]\nname = \"a\"\n[api]\nlisten = \"localhost\"", "no address and port");
    check("[node]\nname = \"a\"\n[hub]\nurl = \"hub:80\"", "begins with http://");
    check("[node]\nname = \"a\"\n[journal]\nmax_bytes = \"1kB\"", "below 1 MiB");
    check(
        "[node]\nname = \"a\"\n[policy]\nleaves = [\"row\"]",
        "there is no class \"row\" (did you mean `raw`?)",
    );
    check("[node]\nname = \"a\"\nflow = \"other.toml\"", "other.toml: cannot be read");
    check("[nodes]\n", "did you mean `node`?");
    check("node = 1", "`node` must be a table, found integer");
}

#[test]
fn rules_are_checked_against_the_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pump.csv"), "timestamp,pressure,temp\n1,2,3\n").unwrap();
    let text = SOUND.replace("channels = [\"pressure\", \"temperature\"]\n", "");
    fs::write(dir.path().join("flow.toml"), text).unwrap();
    let flow = Flow::load(&dir.path().join("flow.toml")).unwrap();
    let found = flow.check_files().unwrap_err().to_string();
    assert!(found.contains("flow.toml:14:14: `source.pump` has no channel `temperature`"), "{found}");
    fs::remove_file(dir.path().join("pump.csv")).unwrap();
    let found = flow.check_files().unwrap_err().to_string();
    assert!(
        found.contains("flow.toml:2:9: `source.pump`: ") && found.contains("pump.csv: cannot be read"),
        "{found}"
    );
}

#[test]
fn tokens() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let read = |text: &str| {
        std::fs::write(&file, text).unwrap();
        node::config::token::read_token(&file).map_err(|error| error.to_string())
    };
    assert_eq!(read("s3cret\r\nanything é\n"), Ok("s3cret".to_owned()));
    assert_eq!(read(&format!("  {}\n", "x".repeat(4_096))), Ok("x".repeat(4_096)));
    for bad in ["", "\ns3cret", "two words", "sécret", &"x".repeat(4_097), &"x".repeat(100_000)] {
        assert!(read(bad).is_err_and(|error| error.contains("is no token")), "{bad:.20}");
    }
}

#[test]
fn a_table_with_a_head_of_its_own_is_told_entry_by_entry() {
    const PLC: &str = "[source.plc]\ntype = \"modbus-tcp\"\naddress = \"10.0.0.7:502\"\n\
        [source.plc.registers]\nlevel = \"i16@110\"\n";
    let before = flow(PLC).unwrap();
    let found = before.effective.iter().find(|value| value.key == "source.plc.registers.level").unwrap();
    assert_eq!(found.value, "\"i16@110\"");
    let after = flow(&PLC.replace("i16@110", "i16@112")).unwrap();
    assert!(before.same(&before, "source.plc") && !before.same(&after, "source.plc"));
}

const WITH_PARAMS: &str = "[params]\nlimit = 80.0\nlag = 5\nname = \"pump.csv\"\n[source.pump]\ntype = \"replay\"\n\
    file = \"${params.name}\"\nchannels = [\"t\", \"u\"]\n[model.m]\ntype = \"subspace\"\ninputs = [\"source.pump\"]\n\
    lag = \"${params.lag}\"\n[rule.hot]\ninputs = [\"source.pump\"]\nwhen = \"pump.t > ${params.limit} - 1\"\n";

#[test]
fn parameters() {
    let flow = flow(WITH_PARAMS).unwrap();
    assert_eq!((flow.models[0].lag, flow.rules[0].when.text()), (5, "pump.t > 80.0 - 1"));
    let shown = |flow: &Flow, key: &str| {
        let found = flow.effective.iter().find(|value| value.key == key).unwrap();
        format!("{} {}", found.value, found.origin.as_str())
    };
    assert_eq!(shown(&flow, "rule.hot.when"), "\"pump.t > 80.0 - 1\" file");
    assert_eq!(
        (shown(&flow, "model.m.lag"), shown(&flow, "params.limit")),
        ("5 file".into(), "80.0 file".into())
    );

    fn check(from: &str, to: &str, expected: &str) {
        let found = self::flow(&WITH_PARAMS.replacen(from, to, 1)).unwrap_err();
        assert!(found.contains(expected), "{from} -> {to}: {found}");
    }
    check("${params.limit}", "${params.limt}", "15:18: there is no parameter `limt` (did you mean `limit`?)");
    check("${params.limit}", "${limit}", "`${limit}` is no parameter (write `${params.limit}`)");
    check("${params.limit}", "${params.limit", "nothing closes `${`");
    check("${params.lag}", "${params.name}", "`lag` of `model.m`: invalid type: string");
    check("limit = 80.0", "limit = [80.0]", "2:9: the parameter `limit` is no text, number, true or false");
    check("limit = 80.0", "Limit = 80.0", "the name \"Limit\" cannot be used");

    let node = |params: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node.toml"), format!("[node]\nname = \"a\"\n[params]\n{params}")).unwrap();
        fs::write(dir.path().join("flow.toml"), WITH_PARAMS).unwrap();
        let folder = format!("{}/", dir.path().display());
        let config = Config::load(&dir.path().join("node.toml"));
        config.map_err(|errors| errors.to_string().replace(&folder, ""))
    };
    let config = node("limit = 85\n").unwrap();
    assert_eq!(config.flow.rules[0].when.text(), "pump.t > 85 - 1");
    assert_eq!(shown(&config.flow, "params.limit"), "85 node");
    assert_ne!(config.flow.digest, flow.digest, "a node with values of its own runs another flow");
    assert_eq!(node("").unwrap().flow.digest, flow.digest);
    let unknown = node("limt = 85\n").unwrap_err();
    assert_eq!(unknown, "node.toml:4:1: the flow has no parameter `limt` (did you mean `limit`?)");
    let kind = node("limit = \"85\"\n").unwrap_err();
    assert!(kind.contains("the flow's `limit` is a number, this is a text"), "{kind}");
}

#[test]
fn tests_of_a_flow() {
    const FLOW: &str = "[source.pump]\ntype = \"http\"\nchannels = [\"t\"]\n[model.m]\ntype = \"subspace\"\n\
        inputs = [\"source.pump\"]\n[rule.hot]\ninputs = [\"source.pump\"]\nwhen = \"pump.t > 80\"\nfor = \"30s\"\n\
        [rule.odd]\ninputs = [\"model.m\"]\nwhen = \"m.p > 0.9\"\n[[test]]\nname = \"hot\"\n";
    let played = |test: &str| {
        let flow = flow(&format!("{FLOW}{test}"))?;
        node::play::rehearse::rehearse(&flow).map_err(|problems| problems.to_string())
    };
    fn has(found: Result<usize, String>, expected: &str) {
        let found = found.expect_err(expected);
        assert!(found.contains(expected), "{found}");
    }
    let given = "given = { pump = { t = 85 } }\n";
    assert_eq!(
        played(&format!("{given}after = \"31s\"\nexpect = {{ rule = \"hot\", state = \"firing\" }}\n")),
        Ok(1)
    );
    assert_eq!(
        played("given = { pump = { t = 1 }, m = { p = 0.95 } }\nexpect = { rule = \"odd\", fired = 1 }\n"),
        Ok(1)
    );
    let gone =
        "given = [{ pump = { t = 85 } }, { at = \"10s\", pump = { t = \"missing\" } }]\nafter = \"60s\"\n";
    assert_eq!(played(&format!("{gone}expect = {{ rule = \"hot\", state = \"pending\" }}\n")), Ok(1));
    has(
        played(&format!("{given}after = \"29s\"\nexpect = {{ rule = \"hot\", state = \"firing\" }}\n")),
        "flow.toml:18:10: hot: after 29 s `rule.hot` is pending, not firing (it decided nothing)",
    );
    has(
        played(&format!("{given}after = \"31s\"\nexpect = {{ rule = \"hot\", fired = 2 }}\n")),
        "has fired 1 times, not 2 (it fired at 30 s: t was 85, above 80, for 30 s)",
    );
    has(
        played("given = { pump = { u = 85 } }\nexpect = { rule = \"hot\", state = \"quiet\" }\n"),
        "there is no `u` to give (known: `t`)",
    );
    has(
        played("given = { pmp = { t = 85 } }\nexpect = { rule = \"hot\", state = \"quiet\" }\n"),
        "no source, feature or model `pmp` (did you mean `pump`?)",
    );
    has(
        played(&format!("{given}expect = {{ rule = \"hut\", state = \"quiet\" }}\n")),
        "there is no rule `hut` (did you mean `hot`?)",
    );
    has(
        played(&format!("{given}expect = {{ rule = \"hot\", state = \"fire\" }}\n")),
        "a rule is never \"fire\"",
    );
    has(played(&format!("{given}expect = {{ rule = \"hot\" }}\n")), "nothing is expected of the rule");
    has(
        played("given = 3\nexpect = { rule = \"hot\", state = \"quiet\" }\n"),
        "expected a table, or a list of tables",
    );
    has(
        played(&format!(
            "{given}every = \"1ms\"\nafter = \"1h\"\nexpect = {{ rule = \"hot\", fired = 1 }}\n"
        )),
        "more than 86400 readings",
    );
}
