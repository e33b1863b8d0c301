//! `bench --against`: beside a peer that is a script of ours and prints what llama-bench prints.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt as _;

use crate::stage::Stage;

/// What both engines are asked for, in two rounds.
const QUICK: [&str; 10] =
    ["bench", "tiny.gguf", "--prompt", "16", "--answer", "4", "--repetitions", "2", "--threads", "1"];

/// As llama-bench: figures for the threads and lengths that it was asked for, after a word about something else.
const PEER: &str = r#"#!/bin/sh
echo "$@" >> asked
while [ $# -gt 0 ]; do
    case $1 in -t) t=$2 ;; -p) p=$2 ;; -n) n=$2 ;; --broken) broken=1 ;; esac
    shift
done
[ -z "$broken" ] || { echo "load: no such tensor" >&2; exit 3; }
echo "a backend was found"
cat <<END
[
  { "build_commit": "abc1234", "n_threads": $t, "n_prompt": $p, "n_gen": 0, "avg_ts": 2.5, "samples_ts": [ 2.5 ] },
  { "build_commit": "abc1234", "n_threads": $t, "n_prompt": 0, "n_gen": $n, "avg_ts": 1.25, "samples_ts": [ 1.25 ] }
]
END
"#;

fn stage(script: &str) -> Stage {
    let stage = Stage::new();
    stage.write("peer", script);
    std::fs::set_permissions(stage.path("peer"), std::fs::Permissions::from_mode(0o755)).unwrap();
    stage
}

#[test]
fn a_peer_is_measured_in_turns() {
    let stage = stage(PEER);
    let words =
        [&QUICK[..], &["--against", "llama.cpp=./peer", "--against", "ik_llama.cpp=./peer -rtr 1"]].concat();
    let report = stage.run(&[&words[..], &["--json"]].concat()).json();
    let engines = report[0]["speeds"][0]["engines"].as_array().unwrap();
    let names: Vec<_> = engines.iter().map(|engine| engine["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["selvedge", "llama.cpp", "ik_llama.cpp -rtr 1"]);
    let [ours, peer, _] = &engines[..] else { panic!("{engines:?}") };
    let number = |engine: &serde_json::Value, of: &str| engine[of].as_f64().unwrap();
    assert_eq!(peer["prompt"]["median"], 2.5);
    assert_eq!(peer["answer"]["median"], 1.25);
    assert_eq!(peer["version"], "abc1234");
    // With two rounds a median is a mean, and the peer's figures are the same in both.
    let ratio = ours["prompt"]["median"].as_f64().unwrap() / 2.5;
    assert!((number(peer, "prompt_ratio") / ratio - 1.0).abs() < 1e-9, "{peer}");
    assert_eq!((number(ours, "prompt_ratio"), number(ours, "answer_ratio")), (1.0, 1.0));
    assert!(number(ours, "prompt_share") > 0.0 && number(ours, "answer_share") > 0.0, "{ours}");
    // Two peers, two rounds; in the second, ours is no longer the first.
    let asked = std::fs::read_to_string(stage.path("asked")).unwrap();
    let extra: Vec<_> = asked.lines().map(|line| line.ends_with("-t 1 -p 16 -n 4 -rtr 1")).collect();
    assert_eq!(extra, [false, true, false, true], "{asked}");
    let table = stage.run(&words).ok();
    assert!(table.contains("ik_llama.cpp -rtr 1") && table.contains("at most, on 1 thread:"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn a_peer_that_fails_is_told_with_its_last_words() {
    let check = |script: &str, against: &str, expected: &[&str]| {
        let words = [&QUICK[..], &["--limit", "1", "--against", against]].concat();
        let (code, told) = stage(script).run(&words).failed();
        assert_eq!(code, Some(1), "{told}");
        for expected in expected {
            assert!(told.contains(expected), "{expected}: {told}");
        }
    };
    check(PEER, "llama.cpp=./peer --broken", &["llama.cpp --broken", "load: no such tensor", "3"]);
    check(PEER, "llama.cpp=./absent", &["./absent cannot be started"]);
    check(
        "#!/bin/sh\necho no figures here\n",
        "x=./peer",
        &["something else than figures", "no figures here"],
    );
    check("#!/bin/sh\necho '[]'\n", "x=./peer", &["no figure for 16 + 0 tokens on 1 threads"]);
    check("#!/bin/sh\nexec sleep 60\n", "x=./peer", &["had not ended after 1 s"]);
    let (code, told) = stage(PEER).run(&[&QUICK[..], &["--against", "peer"]].concat()).failed();
    assert_eq!(code, Some(2), "{told}");
}
