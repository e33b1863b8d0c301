//! `bench --against`: beside a peer that is a script of ours and prints what llama-bench prints.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::stage::Stage;

/// What all engines are asked for.
const QUICK: [&str; 6] = ["bench", "tiny.gguf", "--prompt", "16", "--answer", "4"];

/// As llama-bench: figures for the threads and lengths that it was asked for, after a word about something else. With
/// `--repack 0` its prompts are faster and its answers slower.
const PEER: &str = r#"#!/bin/sh
echo "$@" >> asked
prompt=2.5 answer=1.25
while [ $# -gt 0 ]; do
    case $1 in
        -t) t=$2 ;; -p) p=$2 ;; -n) n=$2 ;;
        --repack) prompt=5 answer=1 ;;
        --broken) echo "load: no such tensor" >&2; exit 3 ;;
    esac
    shift
done
echo "a backend was found"
cat <<END
[
  { "build_commit": "abc1234", "n_threads": $t, "n_prompt": $p, "n_gen": 0, "avg_ts": $prompt, "samples_ts": [ 1 ] },
  { "build_commit": "abc1234", "n_threads": $t, "n_prompt": 0, "n_gen": $n, "avg_ts": $answer, "samples_ts": [ 1 ] }
]
END
"#;

fn stage(script: &str) -> Stage {
    let stage = Stage::new();
    stage.write("peer", script);
    std::fs::set_permissions(stage.path("peer"), std::fs::Permissions::from_mode(0o755)).unwrap();
    stage
}

fn number(of: &Value) -> f64 {
    of.as_f64().unwrap_or_else(|| panic!("a number: {of}"))
}

#[test]
fn peers_are_measured_in_turns() {
    let stage = stage(PEER);
    let peers = [
        ["--against", "llama.cpp=./peer"],
        ["--against", "llama.cpp=./peer --repack 0"],
        ["--against", "ik_llama.cpp=./peer -rtr 1"],
    ];
    let words = [&QUICK[..], &["--repetitions", "2", "--threads", "1", "--json"], &peers.concat()].concat();
    let report = stage.run(&words).json();
    let speeds = &report[0]["speeds"][0];
    assert_eq!((number(&speeds["threads"]), &speeds["busy"]), (1.0, &Value::Bool(false)));
    let [ours, plain, repacked, ik] = &speeds["engines"].as_array().unwrap()[..] else { panic!("{speeds}") };
    assert_eq!(
        (&ours["name"], &ours["prompt_ratio"], &ours["answer_ratio"]),
        (&"selvedge".into(), &1.0.into(), &1.0.into())
    );
    assert!(number(&ours["prompt_share"]) > 0.0 && number(&ours["answer_share"]) > 0.0, "{ours}");
    assert_eq!((&ik["name"], &ik["switches"]), (&"ik_llama.cpp".into(), &"-rtr 1".into()));
    assert_eq!((number(&plain["prompt"]["median"]), number(&plain["answer"]["median"])), (2.5, 1.25));
    assert_eq!(plain["version"], "abc1234");
    // With two rounds a median is a mean, and the peer's figures are the same in both.
    let ratio = number(&ours["prompt"]["median"]) / 2.5;
    assert!((number(&plain["prompt_ratio"]) / ratio - 1.0).abs() < 1e-9, "{plain}");
    // The best of an engine's settings, of each figure for itself.
    let [llama, alone] = &speeds["best"].as_array().unwrap()[..] else { panic!("{speeds}") };
    assert_eq!((&llama["name"], &alone["name"]), (&"llama.cpp".into(), &"ik_llama.cpp".into()));
    assert_eq!(
        (&llama["prompt"]["switches"], &llama["answer"]["switches"]),
        (&"--repack 0".into(), &"".into())
    );
    assert_eq!(
        (&llama["prompt"]["ratio"], &llama["answer"]["ratio"]),
        (&repacked["prompt_ratio"], &plain["answer_ratio"])
    );
    // Three peers, two rounds, the second backwards.
    let asked = std::fs::read_to_string(stage.path("asked")).unwrap();
    let extra: Vec<_> =
        asked.lines().map(|line| line.split_once("-t 1 -p 16 -n 4").unwrap().1.trim()).collect();
    assert_eq!(extra, ["", "--repack 0", "-rtr 1", "-rtr 1", "--repack 0", ""], "{asked}");
}

#[test]
fn a_busy_neighbour_is_a_setting_of_its_own() {
    let words = [
        &QUICK[..],
        &["--repetitions", "1", "--threads", "1,2", "--busy"],
        &["--against", "llama.cpp=./peer --repack 0"],
    ]
    .concat();
    let table = stage(PEER).run(&words).ok();
    for expected in
        ["  1 thread  ", "  2 threads  ", "  2 threads, busy  ", "llama.cpp abc1234", "beside a\nprocess"]
    {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    assert_eq!(table.matches("  beside llama.cpp at its best: prompt × ").count(), 3, "{table}");
    assert_eq!(table.matches("  at most, on 2 threads: ").count(), 2, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 110), "{table}");
}

#[test]
fn a_peer_that_fails_is_told_with_its_last_words() {
    let check = |script: &str, against: &str, expected: &[&str]| {
        let words =
            [&QUICK[..], &["--repetitions", "1", "--threads", "1", "--limit", "1", "--against", against]]
                .concat();
        let (code, told) = stage(script).run(&words).failed();
        assert_eq!(code, Some(1), "{told}");
        for expected in expected {
            assert!(told.contains(expected), "{expected}: {told}");
        }
    };
    check(
        PEER,
        "llama.cpp=./peer --broken",
        &["llama.cpp --broken", "load: no such tensor", "exit status: 3"],
    );
    check(PEER, "llama.cpp=./absent", &["./absent cannot be started"]);
    check("#!/bin/sh\necho no figures here\n", "x=./peer", &["must be a llama-bench", "no figures here"]);
    check("#!/bin/sh\necho '[]'\n", "x=./peer", &["no figure for -t 1 -p 16 -n 0", "leave these"]);
    check("#!/bin/sh\nexec sleep 60\n", "x=./peer", &["had not ended after 1 s (--limit)"]);
    // One that leaves its output to another has not ended either.
    check("#!/bin/sh\nsleep 3 &\n", "x=./peer", &["had not ended after 1 s (--limit)"]);
    check("#!/bin/sh\nexec yes\n", "x=./peer", &["printed more than 1024 kB"]);
    let (code, told) = stage(PEER).run(&[&QUICK[..], &["--against", "peer"]].concat()).failed();
    assert!(code == Some(2) && told.contains("NAME=PATH"), "{code:?}: {told}");
}
