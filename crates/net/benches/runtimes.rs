//! The runtimes beside each other: `cargo bench -p net --features tract,onnxruntime`.
//!
//! Each measurement is a process of its own, one thread, and the runtimes take turns; what is printed are medians of the rounds,
//! as the table of `docs/networks.md`. Needs `../shared/data`, and for ONNX Runtime `ORT_DYLIB_PATH`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench tells a person how long things take"
)]

#[path = "../tests/shared/mod.rs"]
mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use net::network::{Network, Options};
use net::runtime::Kind;
use net::tensor::{Data, Tensor};
use package::contract::Extent;
use serde_json::{Value, json};
use shared::cases::{Came, data, passed_by_peer, play};

/// Rounds of each measurement.
const ROUNDS: usize = 3;
/// Runs that are timed, at least.
const RUNS: usize = 30;
/// Set in the process that measures.
const TASK: &str = "NET_BENCH_TASK";

fn main() {
    if let Ok(task) = std::env::var(TASK) {
        let (kind, path) = task.split_once(' ').expect("a runtime and a file");
        println!("{}", measure(serde_json::from_value(json!(kind)).expect("a runtime"), Path::new(path)));
        return;
    }
    let (Some(models), Some(minilm)) = (data("onnx-models"), data("minilm")) else { return };
    let kinds: Vec<Kind> =
        Kind::built().into_iter().filter(|kind| *kind != Kind::OnnxRuntime || has_library()).collect();
    let mut files: Vec<(String, PathBuf)> = [
        ("MNIST", models.join("mnist/opt-mnist.onnx")),
        ("UltraFace RFB-320", models.join("ultraface/version-RFB-320.onnx")),
        ("silero VAD, one frame", models.join("silero-vad/silero_vad_16k_op15.onnx")),
        ("Magika", models.join("magika/model.onnx")),
        ("MiniLM int8, 27 tokens", minilm.join("all-MiniLM-L6-v2-int8dyn.onnx")),
    ]
    .map(|(name, path)| (name.to_owned(), path))
    .into();
    if let Some(more) = std::env::var_os("NET_BENCH_MODEL") {
        let path = PathBuf::from(more);
        files.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
    }
    println!("| model | runtime | load ms | first run ms | run ms | memory MiB |\n|---|---|---|---|---|---|");
    for (name, path) in &files {
        let mut rounds: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for (at, kind) in kinds.iter().enumerate() {
                rounds.entry(at).or_default().push(measured(*kind, path));
            }
        }
        for (at, results) in rounds {
            let word = kinds[at].word();
            match results[0]["refused"].as_str() {
                Some(said) => println!("| {name} | {word} | refused: {said} | | | |"),
                None => {
                    let of = |key: &str| {
                        median(results.iter().map(|one| one[key].as_f64().unwrap_or(f64::NAN)).collect())
                    };
                    let [load, first, run, memory] = ["load", "first", "run", "memory"].map(of);
                    println!("| {name} | {word} | {load:.1} | {first:.1} | {run:.3} | {memory:.1} |");
                }
            }
        }
    }
    let Some(folder) = data("onnx-conformance") else { return };
    let cases = passed_by_peer(&folder);
    println!(
        "\n| runtime | of {} cases that ONNX Runtime passes | refused | other result | broke |\n|---|---|---|---|---|",
        cases.len()
    );
    for kind in kinds {
        let came: Vec<Came> = cases.iter().map(|case| play(case, kind)).collect();
        let count = |is: fn(&Came) -> bool| came.iter().filter(|came| is(came)).count();
        let passed = count(|came| *came == Came::Passed);
        println!(
            "| {} | {passed} ({:.1} %) | {} | {} | {} |",
            kind.word(),
            100.0 * passed as f64 / cases.len() as f64,
            count(|came| matches!(came, Came::Refused(_))),
            count(|came| matches!(came, Came::Differs(_))),
            count(|came| matches!(came, Came::Broke(_))),
        );
    }
}

fn has_library() -> bool {
    std::env::var_os("ORT_DYLIB_PATH").is_some()
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

/// Measures in a process of its own.
fn measured(kind: Kind, path: &Path) -> Value {
    let own = std::env::current_exe().expect("the bench is a file");
    let task = format!("{} {}", kind.word(), path.display());
    let out = Command::new(own).env(TASK, task).output().expect("the bench starts itself");
    let said = String::from_utf8_lossy(&out.stdout);
    said.lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| json!({ "refused": "it died" }))
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn measure(kind: Kind, path: &Path) -> Value {
    let bytes = std::fs::read(path).expect("the network is there");
    let before = resident();
    let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let options = Options { runtime: Some(kind), ..Options::default() };
    let mut network = match Network::load(&bytes, &options) {
        Ok(network) => network,
        Err(error) => return json!({ "refused": error.to_string() }),
    };
    let load = milliseconds(start);
    let inputs: Vec<Tensor> = network.inputs().iter().map(input).collect();
    let start = Instant::now();
    if let Err(error) = network.run(&inputs) {
        return json!({ "refused": error.to_string() });
    }
    let first = milliseconds(start);
    let begin = Instant::now();
    let mut runs = Vec::new();
    while runs.len() < RUNS || (begin.elapsed().as_millis() < 400 && runs.len() < 2000) {
        let start = Instant::now();
        network.run(&inputs).expect("it ran before");
        runs.push(milliseconds(start));
    }
    json!({ "load": load, "first": first, "run": median(runs), "memory": resident() - before })
}

/// Something to put in: what is free is 1, but for the lengths of a frame of sound and of a sentence.
fn input(port: &package::contract::Port) -> Tensor {
    let sizes = port.shape.iter().flatten().map(|extent| match extent {
        Extent::Fixed(size) => *size as usize,
        Extent::Named(name) if name == "sequence" => 576,
        Extent::Named(name) if name == "seq" => 27,
        Extent::Named(_) | Extent::Free => 1,
    });
    let shape: Vec<usize> = sizes.collect();
    let count: usize = shape.iter().product();
    let numbers: Vec<f64> = match port.name.as_str() {
        "sr" => vec![16000.0],
        "attention_mask" => vec![1.0; count],
        "token_type_ids" => vec![0.0; count],
        "input_ids" => (0..count).map(|at| 2000.0 + 13.0 * at as f64).collect(),
        "bytes" => (0..count).map(|at| (at * 7 % 256) as f64).collect(),
        _ => (0..count).map(|at| (at as f64 * 0.37).sin() * 0.5).collect(),
    };
    Tensor::new(shape, Data::of_numbers(&port.element, &numbers).expect("numbers")).expect("it is whole")
}
