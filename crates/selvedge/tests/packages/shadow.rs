//! A candidate that answers beside the current model, in the real process that a node starts for it.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use kernels::page::CacheFormat;
use lm::specimen::Specimen;
use node::install::event::Agreement;
use node::install::prove::ChildProver;
use node::install::shadow::{Compared, Comparison, Sample};
use node::install::state::Slot;
use node::install::trial::Extent;
use package::digest::Digest;
use package::golden::Budget;
use package::name::VariantName;
use serde_json::{Value, json};

use crate::stage::Stage;

/// A package of one model with random numbers of this seed, unpacked into the store `store`. Gives the digest of its manifest.
fn stored(stage: &Stage, release: &str, seed: u64) -> Digest {
    let model = Specimen { seed, context: 1_024, ..Specimen::SMALL };
    model.write(&mut std::fs::File::create(stage.path("model.gguf")).unwrap()).unwrap();
    let output = format!("tiny-{release}");
    stage.run(&["pack", "model.gguf", "--model", "tiny", "--release", release, "-o", &output]).ok();
    let blobs = stage.path("store/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for entry in std::fs::read_dir(stage.path(&output).join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), blobs.join(entry.file_name())).unwrap();
    }
    let found = stage.run(&["inspect", &output, "--json"]).json();
    let manifest = &found["releases"][0]["variants"][0]["manifest"];
    Digest::parse(manifest.as_str().unwrap()).unwrap()
}

/// What the process says to these lines, and how it ends.
fn said(stage: &Stage, manifest: &Digest, more: &[&str], lines: &str) -> (Vec<Value>, Option<i32>) {
    let manifest = manifest.to_string();
    let words = ["prove", "--shadow", "--packages", "store", "--threads", "1", &manifest];
    let mut child = stage.command(&[&words[..], more].concat()).stdin(Stdio::piped()).spawn().unwrap();
    // It may have ended without reading them.
    drop(child.stdin.take().unwrap().write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), output.status.code())
}

#[test]
fn a_process_answers_line_by_line() {
    let stage = Stage::new();
    let manifest = stored(&stage, "7", 7);
    let question = |prompt: &[u32], max: usize| format!("{}\n", json!({ "prompt": prompt, "max": max }));
    let lines =
        [question(&[5, 6, 7], 4), question(&[5, 6, 7], 2), question(&[4_000_000], 1), question(&[5], 99)];
    let (told, code) = said(&stage, &manifest, &[], &lines.concat());
    assert_eq!((told.len(), &told[0], code), (5, &json!("ready"), Some(0)), "{told:?}");
    let tokens = told[1]["tokens"].as_array().unwrap();
    assert!((1..=4).contains(&tokens.len()), "{told:?}");
    assert_eq!(told[2]["tokens"].as_array().unwrap()[..], tokens[..tokens.len().min(2)]);
    assert!(told[3]["failed"].as_str().unwrap().contains("vocabulary"), "{told:?}");
    assert!(told[4]["failed"].as_str().unwrap().contains("too many"), "{told:?}");
    // A prompt that is read in pieces, with keys and values in each format.
    let long: Vec<u32> = (0..700).map(|at| 5 + at % 200).collect();
    for cache in ["f16", "f32"] {
        let (told, _) = said(&stage, &manifest, &["--cache-type", cache], &question(&long, 1));
        assert!(told.len() == 2 && told[1].is_object(), "{cache}: {told:?}");
    }
    let (told, code) = said(&stage, &manifest, &[], "what?\n");
    assert_eq!((told, code), (vec![json!("ready")], Some(1)));
    // No room beside what runs: it ends before it is loaded.
    let (told, code) = said(&stage, &manifest, &["--leave", "18446744073709551615"], "");
    let told = told[0]["not_here"].as_str().unwrap_or("there is no such figure on this system").to_owned();
    assert_eq!(code, Some(0));
    assert!(told.contains("MiB are free") || cfg!(not(target_os = "linux")), "{told}");
}

#[test]
fn the_same_weights_agree_and_others_do_not() {
    let stage = Stage::new();
    let [current, same, other] =
        [("7", 7), ("8", 7), ("9", 8)].map(|(release, seed)| stored(&stage, release, seed));
    assert_ne!(current, same, "another release");
    let prompts: Vec<Vec<u32>> = (0..3).map(|at| vec![5, 6 + at, 20]).collect();
    let lines: Vec<String> =
        prompts.iter().map(|prompt| format!("{}\n", json!({ "prompt": prompt, "max": 16 }))).collect();
    let (answers, _) = said(&stage, &current, &[], &lines.concat());
    let samples: Vec<Sample> = prompts
        .into_iter()
        .zip(&answers[1..])
        .map(|(prompt, told)| Sample {
            prompt,
            answer: serde_json::from_value(told["tokens"].clone()).unwrap(),
        })
        .collect();
    let compare = |manifest: Digest, at_most: Duration| {
        let command = [env!("CARGO_BIN_EXE_selvedge"), "prove"].map(OsString::from).to_vec();
        let (packages, limit) = (stage.path("store"), Duration::from_secs(60));
        let prover = ChildProver { command, packages, keys: None, limit, ends: Arc::default() };
        let extent = Extent { answers: 3, at_most };
        let comparison = Comparison { prover, extent, limits: None, cache: CacheFormat::F16, keep_bytes: 0 };
        let (release, variant) = (8, VariantName::new("f32").unwrap());
        let (index, weights, golden, committed_ms, rollout) = (manifest, manifest, None, None, None);
        let slot = Slot { release, index, manifest, variant, weights, golden, committed_ms, rollout };
        let (tell, heard) = sync_channel(3);
        samples.iter().for_each(|sample| tell.send(sample.clone()).unwrap());
        comparison.compare(&slot, Budget::default(), &heard, &mut |_| ())
    };
    let minute = Duration::from_secs(60);
    assert_eq!(compare(same, minute), Compared::Whole(Agreement { compared: 3, agreed: 3 }));
    assert_eq!(compare(other, minute), Compared::Whole(Agreement { compared: 3, agreed: 0 }));
    assert_eq!(compare(same, Duration::ZERO), Compared::Whole(Agreement { compared: 0, agreed: 0 }));
    let nowhere = compare(Digest::of(b"nowhere"), minute);
    assert!(matches!(&nowhere, Compared::NotHere(why) if why.contains("not in the store")), "{nowhere:?}");
}
