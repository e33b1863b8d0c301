//! ONNX's own cases, of those that ONNX Runtime passes: how many each runtime passes here, and that each refusal is clear.

mod shared;

use std::collections::BTreeMap;

use net::runtime::Kind;
use shared::cases::{Came, passed_by_peer, play};
use shared::data::data;

/// The least share that each runtime passed when it was measured; less is a loss.
fn floor(kind: Kind) -> f64 {
    match kind {
        Kind::Tract => 565.0 / 691.0,
        // What it passed when the cases were chosen, less those with sequences, which are no tensors here.
        Kind::OnnxRuntime => 673.0 / 691.0,
    }
}

#[test]
fn cases_pass_or_are_refused_clearly() {
    let Some(folder) = data("onnx-conformance") else { return };
    let cases = passed_by_peer(&folder);
    for kind in Kind::built() {
        if kind == Kind::OnnxRuntime && std::env::var_os("ORT_DYLIB_PATH").is_none() {
            println!("skipped: ORT_DYLIB_PATH names no ONNX Runtime");
            continue;
        }
        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for case in &cases {
            let (word, said) = match play(case, kind) {
                Came::Passed => ("passed", String::new()),
                Came::Refused(said) => ("refused", said),
                Came::Differs(said) => ("differs", said),
                Came::Broke(said) => ("broke", said),
            };
            told.entry(word).or_default().push(format!("{}: {said}", case.name));
        }
        let count = |word: &str| told.get(word).map_or(0, Vec::len);
        let share = count("passed") as f64 / cases.len() as f64;
        println!(
            "{}: {} of {} passed ({:.1} %), {} refused, {} differ, {} broke",
            kind.word(),
            count("passed"),
            cases.len(),
            share * 100.0,
            count("refused"),
            count("differs"),
            count("broke")
        );
        for word in ["refused", "differs", "broke"] {
            for line in told.get(word).into_iter().flatten() {
                println!("  {word} {line}");
            }
        }
        let broke = told.get("broke");
        assert!(broke.is_none() || kind != Kind::Tract, "{broke:?}");
        for line in told.get("refused").into_iter().flatten() {
            assert!(
                !line.contains("panicked") && (line.contains("export") || line.contains("no tensor")),
                "{line}"
            );
        }
        assert!(share >= floor(kind), "{} passes only {share:.4}", kind.word());
    }
}
