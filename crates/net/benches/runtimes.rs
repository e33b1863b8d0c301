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
use net::specimen::{Size, constant, ints, model, node, value};
use net::tensor::{Data, Tensor};
use package::contract::Extent;
use serde_json::{Value, json};
use shared::cases::{Came, passed_by_peer, play};
use shared::data::data;

/// Rounds of each measurement.
const ROUNDS: usize = 3;
/// Looks that share a run.
const TOGETHER: usize = 8;
/// Runs that are timed, at least.
const RUNS: usize = 30;
/// Set in the process that measures.
const TASK: &str = "NET_BENCH_TASK";

fn main() {
    if let Ok(task) = std::env::var(TASK) {
        let [kind, looks, path] =
            task.splitn(3, ' ').collect::<Vec<_>>().try_into().expect("a runtime, a number and a file");
        let kind = serde_json::from_value(json!(kind)).expect("a runtime");
        println!("{}", measure(kind, looks.parse().expect("a number"), Path::new(path)));
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
                rounds.entry(at).or_default().push(measured(*kind, 1, path));
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
    together(&kinds, &models, &minilm);
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

/// Networks that leave open how many look: alone, and several in one run.
fn together(kinds: &[Kind], models: &Path, minilm: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("shapes.onnx");
    std::fs::write(&own, shapes()).expect("a file");
    println!(
        "\n| model | runtime | alone ms | each of {TOGETHER} together ms | ratio |\n|---|---|---|---|---|"
    );
    for (name, path) in [
        ("three convolutions of 64×64 pixels", own),
        ("Magika", models.join("magika/model.onnx")),
        ("MiniLM int8, 27 tokens", minilm.join("all-MiniLM-L6-v2-int8dyn.onnx")),
    ] {
        let mut rounds: BTreeMap<usize, Vec<(Value, Value)>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for (at, kind) in kinds.iter().enumerate() {
                let both = (measured(*kind, 1, &path), measured(*kind, TOGETHER, &path));
                rounds.entry(at).or_default().push(both);
            }
        }
        for (at, results) in rounds {
            let ms = |one: &Value| one["run"].as_f64().unwrap_or(f64::NAN);
            let alone = median(results.iter().map(|(alone, _)| ms(alone)).collect());
            let each = median(results.iter().map(|(_, together)| ms(together) / TOGETHER as f64).collect());
            println!("| {name} | {} | {alone:.3} | {each:.3} | {:.2} |", kinds[at].word(), alone / each);
        }
    }
}

/// A small network for pictures, of weights from nowhere.
fn shapes() -> Vec<u8> {
    let weights =
        |count: usize| -> Vec<f32> { (0..count).map(|at| ((at * at) as f32 * 0.37).sin() * 0.1).collect() };
    let halved = || vec![ints("strides", &[2, 2])];
    let parts = [
        node("Conv", &["x", "k1"], &["a"], &halved()),
        node("Relu", &["a"], &["b"], &[]),
        node("Conv", &["b", "k2"], &["c"], &halved()),
        node("Relu", &["c"], &["d"], &[]),
        node("Conv", &["d", "k3"], &["e"], &halved()),
        node("Relu", &["e"], &["f"], &[]),
        node("GlobalAveragePool", &["f"], &["g"], &[]),
        node("Flatten", &["g"], &["h"], &[]),
        node("MatMul", &["h", "w"], &["y"], &[]),
        constant("k1", &[16, 3, 3, 3], &weights(16 * 27)),
        constant("k2", &[32, 16, 3, 3], &weights(32 * 144)),
        constant("k3", &[64, 32, 3, 3], &weights(64 * 288)),
        constant("w", &[64, 10], &weights(640)),
    ];
    let looks = Size::Called("looks");
    let x = value("x", 1, &[looks, Size::Is(3), Size::Is(64), Size::Is(64)]);
    model(&parts, &[x], &[value("y", 1, &[looks, Size::Is(10)])])
}

fn has_library() -> bool {
    std::env::var_os("ORT_DYLIB_PATH").is_some()
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

/// Measures in a process of its own.
fn measured(kind: Kind, looks: usize, path: &Path) -> Value {
    let own = std::env::current_exe().expect("the bench is a file");
    let task = format!("{} {looks} {}", kind.word(), path.display());
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

fn measure(kind: Kind, looks: usize, path: &Path) -> Value {
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
    let inputs: Vec<Tensor> = network.inputs().iter().map(|port| input(port, looks)).collect();
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

/// Something to put in: of a first dimension that is free so many, of others 1, but for the lengths of a frame of sound and of a
/// sentence.
fn input(port: &package::contract::Port, looks: usize) -> Tensor {
    let sizes = port.shape.iter().flatten().enumerate().map(|(at, extent)| match extent {
        Extent::Fixed(size) => *size as usize,
        Extent::Named(name) if name == "sequence" => 576,
        Extent::Named(name) if name == "seq" => 27,
        Extent::Named(_) | Extent::Free => {
            if at == 0 {
                looks
            } else {
                1
            }
        }
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
